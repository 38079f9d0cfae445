//! Keeps room for pods' logs if `/var` is in memory.
//!
//! `/var/log/pods` is then a tmpfs of limited size, so that a pod that logs forever does not use up
//! the node's memory. kubelet alone cannot keep it from filling up: it rotates a file above
//! `containerLogMaxSize` every few seconds and keeps the old file. If the old file fills the file
//! system, the new one stays empty and is never rotated, the old one is never removed, and
//! containerd drops the lines of every pod. So a thread frees space as soon as less than a quarter
//! is free: it removes the largest rotated files first, then empties files in use and leaves a note
//! in them.

use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use kiln_base::calendar::{Civil, Precision};
use rustix::fs::{FileType, fstatvfs};

use super::stamp::Stamp;
use crate::console::kmsg;
use crate::kernel::beneath::Folder;

/// The folder in which containerd writes the pods' output.
pub const FOLDER: &str = "/var/log/pods";

/// The pause between two checks while less than half is used. A pod that writes 10 MB/s does not
/// fill a quarter of the smallest node's 24 MiB in this time.
const CALM: Duration = Duration::from_millis(500);

/// The pause between two checks while more than half is used.
const BUSY: Duration = Duration::from_millis(100);

/// The divisor of the share that is kept free.
const FREE_PART: u64 = 4;

/// The shortest time between two messages on the console, in microseconds.
const QUIET: u64 = 60_000_000;

/// The number of files that are listed. A node has at most some hundred containers.
const FILES_MAX: usize = 10_000;

/// The size of the thread's stack.
const STACK: usize = 64 * 1024;

/// A log file of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
struct LogFile {
    /// The path in the folder.
    path: PathBuf,
    /// The bytes of memory that the file takes.
    bytes: u64,
    /// True for `0.log.20261121-144300`, which is no longer written.
    rotated: bool,
}

/// Starts the thread that keeps room in [`FOLDER`].
pub fn guard() -> Result<()> {
    let builder = std::thread::Builder::new().name("pod-logs".into()).stack_size(STACK);
    let spawned = builder.spawn(|| {
        let mut said = None;
        loop {
            let folder = Folder::open(Path::new(FOLDER));
            std::thread::sleep(folder.map_or(CALM, |folder| look(&folder, &mut said)));
        }
    });
    spawned.context("cannot start the pod logs' thread").map(drop)
}

/// Makes room if there is too little. Returns the time until the next check.
fn look(folder: &Folder, said: &mut Option<u64>) -> Duration {
    let Ok(space) = fstatvfs(folder) else { return CALM };
    let (total, free) = (space.f_blocks * space.f_frsize, space.f_bavail * space.f_frsize);
    let wanted = total / FREE_PART;
    if free < wanted {
        let chosen = choose(list(folder), wanted - free);
        for file in &chosen {
            let _ = kmsg::warn_on_error(remove(folder, file));
        }
        report(&chosen, said);
    }
    if free > total / 2 { CALM } else { BUSY }
}

/// Lists all log files, `NAMESPACE_POD_UID/CONTAINER/N.log` and rotated ones.
fn list(folder: &Folder) -> Vec<LogFile> {
    let mut files = Vec::new();
    for pod in names(folder) {
        let Ok(containers) = folder.folder(&pod) else { continue };
        for container in names(&containers) {
            let Ok(logs) = containers.folder(&container) else { continue };
            for name in names(&logs) {
                let Ok(stat) = logs.metadata(&name) else { continue };
                if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile {
                    let path = Path::new(&pod).join(&container).join(&name);
                    let bytes = u64::try_from(stat.st_blocks).unwrap_or_default() * 512;
                    files.push(LogFile { rotated: is_rotated(&path), path, bytes });
                }
                if files.len() == FILES_MAX {
                    return files;
                }
            }
        }
    }
    files
}

fn names(folder: &Folder) -> Vec<OsString> {
    folder.list(FILES_MAX).unwrap_or_default()
}

/// True for a rotated file: containerd writes to `N.log`, and kubelet adds the time.
fn is_rotated(path: &Path) -> bool {
    path.extension().is_none_or(|extension| extension != "log")
}

/// Chooses files so that `needed` bytes become free: rotated ones first, and the largest first,
/// because they belong to the pod that fills the file system.
fn choose(mut files: Vec<LogFile>, needed: u64) -> Vec<LogFile> {
    files.sort_by_key(|file| (!file.rotated, std::cmp::Reverse(file.bytes)));
    let mut freed = 0;
    let mut chosen = Vec::new();
    for file in files.into_iter().filter(|file| file.bytes > 0) {
        if freed >= needed {
            break;
        }
        freed += file.bytes;
        chosen.push(file);
    }
    chosen
}

/// Unlinks a rotated file. A file in use is emptied, because containerd continues to write at its
/// end, and a line in CRI's format notes the missing bytes.
fn remove(folder: &Folder, file: &LogFile) -> Result<()> {
    let path = folder.path_of(&file.path);
    let path = path.display();
    if file.rotated {
        return folder.remove(&file.path).with_context(|| format!("cannot remove {path}"));
    }
    let mut open = folder.edit(&file.path).with_context(|| format!("cannot open {path}"))?;
    open.set_len(0).with_context(|| format!("cannot truncate {path}"))?;
    let time = Civil::now().rfc3339(Precision::Micros);
    let text = format!("{time} stderr F kiln: {} bytes of this log dropped here\n", file.bytes);
    open.write_all(text.as_bytes()).with_context(|| format!("cannot write {path}"))
}

fn report(chosen: &[LogFile], said: &mut Option<u64>) {
    let Some(largest) = chosen.iter().max_by_key(|file| file.bytes) else { return };
    let now = Stamp::now().monotonic;
    if said.is_none_or(|said| now.saturating_sub(said) >= QUIET) {
        let bytes: u64 = chosen.iter().map(|file| file.bytes).sum();
        let path = largest.path.display();
        kmsg::warn(format_args!("{FOLDER} is full: dropped {bytes} bytes, most of them {path}"));
        *said = Some(now);
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;

    use proptest::prelude::*;

    use super::{Folder, LogFile, choose, is_rotated, list, remove};

    fn file(path: &str, bytes: u64) -> LogFile {
        LogFile { path: path.into(), bytes, rotated: is_rotated(path.as_ref()) }
    }

    #[test]
    fn the_largest_rotated_files_are_removed_first_and_no_more_than_needed() {
        let files = [
            file("a/0.log", 900),
            file("a/0.log.1", 50),
            file("b/0.log.1", 300),
            file("c/0.log", 0),
        ];
        let chosen = |needed| {
            let paths = choose(files.to_vec(), needed).into_iter();
            paths.map(|file| file.path.display().to_string()).collect::<Vec<_>>()
        };
        assert_eq!(chosen(0), [""; 0]);
        assert_eq!(chosen(100), ["b/0.log.1"]);
        assert_eq!(chosen(301), ["b/0.log.1", "a/0.log.1"]);
        assert_eq!(chosen(9999), ["b/0.log.1", "a/0.log.1", "a/0.log"]);
    }

    #[test]
    fn a_file_in_use_is_emptied_and_continues_with_a_line_about_it() {
        let folder = tempfile::tempdir().unwrap();
        let container = folder.path().join("default_pod_uid/name");
        fs::create_dir_all(&container).unwrap();
        let path = container.join("0.log");
        let mut writer = fs::OpenOptions::new().append(true).create(true).open(&path).unwrap();
        writer.write_all(&[b'x'; 10_000]).unwrap();
        fs::write(container.join("0.log.20261121-144300"), "old").unwrap();
        std::os::unix::fs::symlink("/etc/passwd", container.join("1.log")).unwrap();
        let opened = Folder::open(folder.path()).unwrap();
        let mut found = list(&opened);
        found.sort_by_key(|file| file.rotated);
        assert_eq!(found.iter().map(|file| file.rotated).collect::<Vec<_>>(), [false, true]);
        for file in &found {
            remove(&opened, file).unwrap();
        }
        writer.write_all(b"2026-11-21T14:43:00Z stdout F next\n").unwrap();
        let text = fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert!(
            lines[0].contains(" stderr F kiln: ")
                && lines[0].ends_with("bytes of this log dropped here")
        );
        assert_eq!(lines[1..], ["2026-11-21T14:43:00Z stdout F next"]);
        assert!(!container.join("0.log.20261121-144300").exists());
    }

    proptest! {
        #[test]
        fn enough_is_chosen_or_everything(
            sizes in prop::collection::vec((0_u64..1000, any::<bool>()), 0..20),
            needed in 0_u64..5000,
        ) {
            let all: u64 = sizes.iter().map(|(bytes, _)| bytes).sum();
            let files = sizes.iter().enumerate().map(|(at, (bytes, rotated))| {
                LogFile { path: at.to_string().into(), bytes: *bytes, rotated: *rotated }
            });
            let chosen: u64 = choose(files.collect(), needed).iter().map(|file| file.bytes).sum();
            prop_assert!(chosen >= needed.min(all));
        }
    }
}
