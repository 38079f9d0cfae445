//! The helper `kiln-crash`, which saves the records of a kernel crash.
//!
//! pstore has them (Documentation/ABI/testing/pstore), in EFI variables by `efi_pstore` or in
//! memory that survives a reset by `ramoops`. The helper copies them to `/var/log/crash` and
//! deletes them, so that the firmware's memory does not fill up. It is a process of its own,
//! because reading EFI variables is slow.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use kiln_base::calendar::{Civil, Precision};
use kiln_base::replace::Durability;
use rustix::fs::FileType;

use crate::console::kmsg;
use crate::kernel::beneath::Folder;
use crate::kernel::mount;
use crate::modules::index::{Found, Index};
use crate::modules::load;
use crate::storage::var;

/// The folder for the copies, in `/var`.
const FOLDER: &str = "log/crash";

/// The largest record in bytes. One in EFI variables has 1 KiB before it is decompressed.
const RECORD_MAX: u64 = 256 * 1024;

/// The number of records that are read at one boot.
const RECORDS_MAX: usize = 256;

/// The number of crashes that are kept.
const CRASHES_MAX: usize = 8;

/// The number of files in the folder that are looked at. More of them are not ours.
const FILES_MAX: usize = 1000;

/// The largest number in a file's name.
const NUMBER_MAX: u32 = 999_999;

/// Runs the helper: loads the module, mounts, copies, deletes. A failure is a warning.
#[must_use]
pub fn run() -> i32 {
    kmsg::open();
    // The image's own list may have loaded it before modules were locked.
    let loaded = Path::new("/sys/module/efi_pstore").exists();
    if Path::new("/sys/firmware/efi").is_dir() && !loaded {
        let _ = kmsg::warn_on_error(load_module());
    }
    let _ = kmsg::warn_on_error(mount::apply_all(&[mount::PSTORE]));
    let folder = || var::open()?.make(FOLDER);
    let collected = collect(Path::new(mount::PSTORE.target), folder);
    if let Some(Some(crash)) = kmsg::warn_on_error(collected) {
        let (reason, file) = (crash.reason, crash.file.display());
        kmsg::error(format_args!("the kernel crashed before this boot ({reason}); see {file}"));
    }
    0
}

fn load_module() -> Result<()> {
    let index = Index::of_running_kernel()?;
    let Found::Load(files) = index.find("efi_pstore") else { return Ok(()) };
    files.iter().try_for_each(|module| load::load_file(&module.file, ""))
}

/// A crash that was found.
#[derive(Debug, PartialEq, Eq)]
struct Crash {
    reason: String,
    file: PathBuf,
}

/// Copies all records to one new file and deletes them. Records that were not written are kept.
///
/// The name is `NUMBER-TIME.log`: a machine without a clock crashes in 1970 again and again, so the
/// order comes from the number.
fn collect(pstore: &Path, folder: impl Fn() -> std::io::Result<Folder>) -> Result<Option<Crash>> {
    let names = names(pstore);
    if names.is_empty() {
        return Ok(None);
    }
    let mut text = Vec::new();
    for name in &names {
        let record = File::open(name).with_context(|| format!("cannot open {}", name.display()))?;
        let read = record.take(RECORD_MAX).read_to_end(&mut text);
        read.with_context(|| format!("cannot read {}", name.display()))?;
        text.push(b'\n');
    }
    let folder = folder().with_context(|| format!("cannot make {FOLDER}"))?;
    let number = keep_newest(&folder).saturating_add(1).min(NUMBER_MAX);
    let file = format!("{number:06}-{}.log", Civil::now().rfc3339(Precision::Micros));
    let path = folder.path_of(&file);
    folder
        .replace(&file, &text, 0o644, Durability::FileAndFolder)
        .with_context(|| format!("cannot write {}", path.display()))?;
    for name in &names {
        fs::remove_file(name).with_context(|| format!("cannot remove {}", name.display()))?;
    }
    Ok(Some(Crash { reason: reason(&text), file: path }))
}

/// Returns the records, the one with the oldest text first. A crash is cut into parts: the first
/// part has the last lines, and names end with time and part.
fn names(pstore: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(pstore).into_iter().flatten().flatten();
    let mut names: Vec<PathBuf> = entries.map(|entry| entry.path()).take(RECORDS_MAX).collect();
    names.sort();
    names.reverse();
    names
}

/// Removes the oldest crashes to make room for one more, and returns the newest one's number.
/// Everything that is not such a file is left alone.
fn keep_newest(folder: &Folder) -> u32 {
    let is_file = |name: &str| {
        let found = folder.metadata(name).map(|stat| FileType::from_raw_mode(stat.st_mode));
        found.is_ok_and(|kind| kind == FileType::RegularFile)
    };
    let names = folder.list(FILES_MAX).unwrap_or_default().into_iter();
    let mut files: Vec<(u32, String)> = names
        .filter_map(|name| name.into_string().ok())
        .filter(|name| Path::new(name).extension().is_some_and(|end| end == "log"))
        .filter(|name| is_file(name))
        .map(|name| (number(&name), name))
        .collect();
    files.sort();
    let old = files.len().saturating_sub(CRASHES_MAX - 1);
    for (_, file) in &files[..old] {
        let _ = folder.remove(file);
    }
    files.last().map_or(0, |(number, _)| *number)
}

/// Returns the number in `NUMBER-TIME.log`, or 0 for a name without one.
fn number(name: &str) -> u32 {
    let digits = name.get(..7).and_then(|start| start.strip_suffix('-'));
    digits.and_then(|digits| digits.parse().ok()).unwrap_or_default()
}

/// Returns the kernel's reason, without the words by which a reader of the console detects a panic
/// of the running kernel.
fn reason(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    let after = |mark: &str| {
        text.lines().rev().find_map(|line| line.split_once(mark)).map(|(_, rest)| rest)
    };
    let found = after("Kernel panic - not syncing: ")
        .or_else(|| after("BUG: "))
        .or_else(|| after("Oops: "));
    found.unwrap_or("for an unknown reason").trim().to_owned()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{CRASHES_MAX, Folder, collect};

    #[test]
    fn records_are_joined_in_the_order_of_their_lines_and_deleted() {
        let (pstore, var) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let record = |name: &str, text: &str| fs::write(pstore.path().join(name), text).unwrap();
        record(
            "dmesg-efi_pstore-179527218001001",
            "Panic#1 Part1\n<0>[ 9.1] Kernel panic - not syncing: sysrq triggered crash\n<4>[ 9.2] end\n",
        );
        record("dmesg-efi_pstore-179527218002001", "Panic#1 Part2\n<6>[ 8.0] earlier\n");
        let folder = || Folder::open(var.path())?.make("crash");
        let crash = collect(pstore.path(), folder).unwrap().unwrap();
        assert_eq!(crash.reason, "sysrq triggered crash");
        let text = fs::read_to_string(crash.file).unwrap();
        assert!(text.find("earlier").unwrap() < text.find("sysrq").unwrap());
        assert_eq!(fs::read_dir(pstore.path()).unwrap().count(), 0);
        assert_eq!(collect(pstore.path(), folder).unwrap(), None);
    }

    #[test]
    fn records_that_cannot_be_copied_are_kept() {
        let pstore = tempfile::tempdir().unwrap();
        fs::write(pstore.path().join("dmesg-efi_pstore-1"), "text").unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(collect(pstore.path(), || Folder::open(file.path())).is_err());
        assert_eq!(fs::read_dir(pstore.path()).unwrap().count(), 1);
    }

    #[test]
    fn the_oldest_crashes_are_removed_and_a_missing_crash_is_not_an_error() {
        let (pstore, var) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let folder = || Folder::open(var.path());
        assert_eq!(collect(&pstore.path().join("missing"), folder).unwrap(), None);
        for old in 0..CRASHES_MAX + 3 {
            fs::write(var.path().join(format!("1970-01-{old:02}.log")), "").unwrap();
        }
        fs::write(pstore.path().join("dmesg-ramoops-0"), "BUG: ä").unwrap();
        let crash = collect(pstore.path(), folder).unwrap().unwrap();
        assert_eq!(fs::read_dir(var.path()).unwrap().count(), CRASHES_MAX);
        assert!(crash.file.exists());
    }

    #[test]
    fn the_newest_crash_is_kept_whatever_the_clock_was() {
        let (pstore, var) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        // These are the names of crashes with a clock, and of a clock that is wrong.
        for number in 1..=CRASHES_MAX {
            fs::write(var.path().join(format!("{number:06}-2099-01-01.log")), "").unwrap();
        }
        let mut newest = Vec::new();
        for _ in 0..3 {
            fs::write(pstore.path().join("dmesg-ramoops-0"), "BUG: x").unwrap();
            let crash = collect(pstore.path(), || Folder::open(var.path())).unwrap().unwrap();
            newest.push(crash.file);
        }
        assert!(newest.iter().all(|file| file.exists()), "{newest:?}");
        assert!(!var.path().join("000003-2099-01-01.log").exists());
        assert!(var.path().join("000004-2099-01-01.log").exists());
    }

    #[test]
    fn only_files_of_crashes_are_removed() {
        let (pstore, var) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for number in 0..20 {
            fs::create_dir(var.path().join(format!("{number}-folder.log"))).unwrap();
            fs::write(var.path().join(format!("{number}-notes")), "a user's").unwrap();
        }
        fs::write(pstore.path().join("dmesg-ramoops-0"), "BUG: x").unwrap();
        collect(pstore.path(), || Folder::open(var.path())).unwrap().unwrap();
        assert_eq!(fs::read_dir(var.path()).unwrap().count(), 41);
    }
}
