//! A log file of bounded size: `NAME.log`, and `NAME.log.1` with the lines before it.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use kiln_base::replace::Durability;

use super::line::BOOT;
use crate::kernel::beneath::Folder;

/// The destination of a log.
pub trait Sink: Send {
    /// Writes whole lines. It may wait for a disk.
    fn write(&mut self, lines: &[u8]) -> Result<()>;
}

/// Returns the name of a stream's current file.
#[must_use]
pub fn current(stream: &str) -> String {
    format!("{stream}.log")
}

/// Returns the name of a stream's file with the lines before [`current`].
#[must_use]
pub fn previous(stream: &str) -> String {
    format!("{stream}.log.1")
}

/// The two files of a stream. The folder and the current file are opened at the first write.
#[derive(Debug)]
pub struct LogFile {
    folder: PathBuf,
    current: String,
    previous: String,
    /// The size limit of each file in bytes, which only a single longer write exceeds.
    most: u64,
    /// The line that names the boot of the lines after it.
    boot: String,
    open: Option<(File, u64)>,
}

impl LogFile {
    /// Returns the files for a stream's lines in the boot with this id.
    #[must_use]
    pub fn new(folder: &Path, stream: &str, most: u64, boot: &str) -> Self {
        Self {
            folder: folder.to_owned(),
            current: current(stream),
            previous: previous(stream),
            most,
            boot: format!("{BOOT}{boot}\n"),
            open: None,
        }
    }

    /// Returns the open file and its size. A newly opened file gets the line about the boot, after
    /// the end of a line that a power failure or a full disk has cut.
    fn open(&mut self) -> Result<(File, u64)> {
        if let Some(open) = self.open.take() {
            return Ok(open);
        }
        let file = Folder::open(&self.folder).and_then(|folder| folder.append(&self.current));
        let file = file.with_context(|| format!("cannot open {}", self.path()))?;
        let size = file.metadata().context("cannot stat a log")?.len();
        let header = format!("{}{}", if size > 0 { "\n" } else { "" }, self.boot);
        self.append((file, size), header.as_bytes())
    }

    fn path(&self) -> String {
        self.folder.join(&self.current).display().to_string()
    }

    fn append(&self, (mut file, size): (File, u64), bytes: &[u8]) -> Result<(File, u64)> {
        file.write_all(bytes).with_context(|| format!("cannot write {}", self.path()))?;
        Ok((file, size + bytes.len() as u64))
    }

    fn rotate(&mut self) -> Result<()> {
        self.open = None;
        let renamed = Folder::open(&self.folder)
            .and_then(|folder| folder.rename(&self.current, &self.previous));
        renamed.with_context(|| format!("cannot rotate {}", self.path()))
    }
}

impl Sink for LogFile {
    /// Writes lines. A failure closes the file, so that the next write opens it again and begins a
    /// new line.
    fn write(&mut self, lines: &[u8]) -> Result<()> {
        let mut open = self.open()?;
        if open.1 > self.boot.len() as u64 + 1 && open.1 + lines.len() as u64 > self.most {
            drop(open);
            self.rotate()?;
            open = self.open()?;
        }
        self.open = Some(self.append(open, lines)?);
        Ok(())
    }
}

/// The file with the ids of boots, one per line, the last boot's last.
pub const BOOTS: &str = "boots";

/// The number of boots that are remembered. Their lines are removed long before.
const BOOTS_MAX: usize = 100;

/// The largest list in bytes, some times as large as one that was written here.
const BOOTS_BYTES_MAX: u64 = 16 * 1024;

/// Reads the list of boots. A missing or malformed list is empty.
#[must_use]
pub fn boots(folder: &Folder) -> Vec<String> {
    let bytes = folder.read(BOOTS, BOOTS_BYTES_MAX).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let ids = text.lines().map(str::trim).filter(|id| id.len() == 36);
    let mut ids: Vec<String> = ids.map(str::to_owned).collect();
    ids.drain(..ids.len().saturating_sub(BOOTS_MAX));
    ids
}

/// Adds a boot to the list. After a power cut the list is either the old or the new one.
pub fn record_boot(folder: &Folder, boot: &str) -> io::Result<()> {
    let mut ids = boots(folder);
    if ids.last().is_none_or(|last| last != boot) {
        ids.push(boot.to_owned());
    }
    let text = ids.join("\n") + "\n";
    folder.replace(BOOTS, text.as_bytes(), 0o644, Durability::File)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use proptest::prelude::*;

    use super::{BOOTS_MAX, Folder, LogFile, Sink, boots, record_boot};

    const BOOT: &str = "0b7b2f5c-6a3d-4c3e-9d0a-0d2f5a3f1e11";

    #[test]
    fn a_log_is_rotated_at_its_limit_and_each_file_names_its_boot() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = LogFile::new(folder.path(), "x", 150, BOOT);
        for line in ["one\n", "two\n", &"a".repeat(100)] {
            file.write(line.as_bytes()).unwrap();
        }
        let read = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
        assert_eq!(read("x.log.1"), format!("-- boot {BOOT}\none\ntwo\n"));
        assert!(read("x.log").starts_with(&format!("-- boot {BOOT}\naaa")));
    }

    #[test]
    fn a_later_boot_begins_on_a_line_of_its_own() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("x.log"), "cut by a power fail").unwrap();
        LogFile::new(folder.path(), "x", 1000, BOOT).write(b"a\n").unwrap();
        let text = fs::read_to_string(folder.path().join("x.log")).unwrap();
        assert_eq!(text, format!("cut by a power fail\n-- boot {BOOT}\na\n"));
    }

    #[test]
    fn a_missing_folder_fails_until_it_exists() {
        let folder = tempfile::tempdir().unwrap();
        let late = folder.path().join("late");
        let mut file = LogFile::new(&late, "x", 1000, BOOT);
        assert!(file.write(b"lost\n").is_err());
        fs::create_dir(&late).unwrap();
        file.write(b"kept\n").unwrap();
        assert!(fs::read_to_string(late.join("x.log")).unwrap().ends_with("kept\n"));
    }

    #[test]
    fn a_planted_link_is_neither_written_nor_read() {
        let outside = tempfile::tempdir().unwrap();
        let manifest = outside.path().join("pod.yaml");
        let id = format!("{:036}", 7);
        fs::write(&manifest, &id).unwrap();
        let folder = tempfile::tempdir().unwrap();
        for name in ["boots", ".boots.new", "boots.new", "x.log", "x.log.1"] {
            std::os::unix::fs::symlink(&manifest, folder.path().join(name)).unwrap();
        }
        let opened = Folder::open(folder.path()).unwrap();
        assert!(boots(&opened).is_empty());
        record_boot(&opened, BOOT).unwrap();
        assert_eq!(boots(&opened), [BOOT]);
        let mut file = LogFile::new(folder.path(), "x", 100, BOOT);
        for _ in 0..5 {
            file.write(&[b'a'; 60]).unwrap();
        }
        assert_eq!(fs::read_to_string(&manifest).unwrap(), id);
        assert!(fs::symlink_metadata(folder.path().join("x.log.1")).unwrap().is_file());
    }

    #[test]
    fn a_huge_list_of_boots_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        fs::File::create(folder.path().join("boots")).unwrap().set_len(10 << 30).unwrap();
        let folder = Folder::open(folder.path()).unwrap();
        record_boot(&folder, BOOT).unwrap();
        assert_eq!(boots(&folder), [BOOT]);
    }

    #[test]
    fn boots_are_listed_once_and_the_oldest_are_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let folder = Folder::open(folder.path()).unwrap();
        assert!(boots(&folder).is_empty());
        for number in 0..BOOTS_MAX + 5 {
            let id = format!("{number:036}");
            record_boot(&folder, &id).unwrap();
            record_boot(&folder, &id).unwrap();
        }
        let found = boots(&folder);
        assert_eq!(found.len(), BOOTS_MAX);
        assert_eq!(found.last().unwrap(), &format!("{:036}", BOOTS_MAX + 4));
    }

    proptest! {
        #[test]
        fn no_file_exceeds_its_limit(lengths in prop::collection::vec(1_usize..400, 1..60)) {
            let folder = tempfile::tempdir().unwrap();
            let mut file = LogFile::new(folder.path(), "x", 1000, BOOT);
            let mut last = Vec::new();
            for length in lengths {
                last = vec![b'a'; length];
                file.write(&last).unwrap();
            }
            for entry in fs::read_dir(folder.path()).unwrap() {
                prop_assert!(entry.unwrap().metadata().unwrap().len() <= 1000);
            }
            prop_assert!(fs::read(folder.path().join("x.log")).unwrap().ends_with(&last));
        }
    }
}
