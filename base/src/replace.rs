//! Replaces a file: readers find either the old file or the new file, never a half-written file.
//!
//! The new file is written next to its destination as `.NAME.new` and renamed. The leading dot
//! hides it from programs that read every file of a folder, such as kubelet in its folder of static
//! pods. A link at the destination is replaced and not followed, and so is a link that was planted
//! under the temporary name. If writing fails, the temporary file is removed; if the writer is
//! killed, the next writer removes it.
//!
//! Errors do not name the path, because the caller knows which file it replaces.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, Mode, OFlags, flock};
use rustix::io::Errno;

/// The number of attempts to create the temporary file. An attempt fails if another process is
/// faster.
const TRIES: usize = 8;

/// The guarantee for a power cut or a kernel crash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// After a power cut the file may be empty or truncated. For a RAM disk, and for files that are
    /// created again at each start. Does not wait for a disk.
    None,
    /// After a power cut the file is completely the old or completely the new file. For settings,
    /// and for results that can be created again.
    File,
    /// The new file is on the disk when the call returns. For a record that the next boot must
    /// find, such as the reason for an imminent reboot.
    FileAndFolder,
}

/// Replaces `path` with a file that has these bytes and exactly this mode, whatever the umask.
pub fn write(path: &Path, bytes: &[u8], mode: u32, durability: Durability) -> io::Result<()> {
    write_with(path, mode, durability, |file| file.write_all(bytes))
}

/// Replaces `to` with a copy of a file, including its mode.
pub fn copy(from: &Path, to: &Path, durability: Durability) -> io::Result<()> {
    let mut source = File::open(from)?;
    let mode = source.metadata()?.permissions().mode() & 0o7777;
    write_with(to, mode, durability, |file| io::copy(&mut source, file).map(drop))
}

/// Replaces `path` with a file that `fill` writes. If `fill` fails, the old file stays.
///
/// Two processes may replace the same file at the same time: one of them can fail with
/// [`ErrorKind::ResourceBusy`], but the file is always the complete work of one of them.
pub fn write_with<E: From<io::Error>>(
    path: &Path,
    mode: u32,
    durability: Durability,
    fill: impl FnOnce(&mut File) -> Result<(), E>,
) -> Result<(), E> {
    let mut new = Temporary::create(path, mode)?;
    fill(&mut new.file)?;
    Ok(new.rename(path, durability)?)
}

/// A file under its temporary name, locked by its writer; removed unless it is renamed.
struct Temporary {
    path: PathBuf,
    file: File,
    renamed: bool,
}

impl Temporary {
    fn create(target: &Path, mode: u32) -> io::Result<Self> {
        let path = temporary_name(target)?;
        for _ in 0..TRIES {
            match OpenOptions::new().write(true).create_new(true).mode(mode).open(&path) {
                Err(error) if error.kind() == ErrorKind::AlreadyExists => remove_abandoned(&path)?,
                file => {
                    let file = file?;
                    if is_claimed(&file)? {
                        let new = Self { path, file, renamed: false };
                        new.file.set_permissions(Permissions::from_mode(mode))?;
                        return Ok(new);
                    }
                }
            }
        }
        Err(ErrorKind::ResourceBusy.into())
    }

    fn rename(mut self, target: &Path, durability: Durability) -> io::Result<()> {
        if durability != Durability::None {
            self.file.sync_all()?;
        }
        fs::rename(&self.path, target)?;
        self.renamed = true;
        if durability == Durability::FileAndFolder {
            File::open(folder(target))?.sync_all()?;
        }
        Ok(())
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.renamed {
            // If this fails, the next writer removes it.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn temporary_name(target: &Path) -> io::Result<PathBuf> {
    let file = target.file_name().ok_or(ErrorKind::InvalidInput)?;
    let mut name = std::ffi::OsString::from(".");
    name.push(file);
    name.push(".new");
    Ok(target.with_file_name(name))
}

fn folder(target: &Path) -> &Path {
    target.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Locks a file that this process has just created. Returns false if another process found the file
/// unlocked, took it for abandoned and removed it.
fn is_claimed(file: &File) -> io::Result<bool> {
    match flock(file, FlockOperation::NonBlockingLockExclusive) {
        Err(Errno::WOULDBLOCK) => Ok(false),
        // Some network file systems have no locks, and a single writer needs no lock.
        _ => Ok(file.metadata()?.nlink() > 0),
    }
}

/// Removes a temporary file whose writer was killed. Fails if the writer is still running.
fn remove_abandoned(path: &Path) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(Errno::NOENT) => return Ok(()),
        // A link or a socket is not a writer's file, but was planted.
        Err(_) => return fs::remove_file(path),
    };
    if flock(&file, FlockOperation::NonBlockingLockExclusive) == Err(Errno::WOULDBLOCK) {
        return Err(ErrorKind::ResourceBusy.into());
    }
    // The writer may have renamed the opened file, and another writer may have created a new file.
    let (opened, named) = (file.metadata()?, fs::symlink_metadata(path));
    if named.is_ok_and(|named| (named.dev(), named.ino()) == (opened.dev(), opened.ino())) {
        fs::remove_file(path)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::io::{self, ErrorKind, Write as _};
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    use std::path::Path;

    use proptest::prelude::*;

    use super::{Durability, copy, write, write_with};

    const ALL: [Durability; 3] = [Durability::None, Durability::File, Durability::FileAndFolder];

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn a_failure_leaves_the_old_file_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        write(&file, b"old", 0o644, Durability::None).unwrap();
        let result: io::Result<()> = write_with(&file, 0o644, Durability::File, |new| {
            new.write_all(b"half")?;
            Err(ErrorKind::StorageFull.into())
        });
        assert_eq!(result.unwrap_err().kind(), ErrorKind::StorageFull);
        assert_eq!(fs::read(&file).unwrap(), b"old");
        assert_eq!(names(dir.path()), ["file"]);
    }

    #[test]
    fn links_are_replaced_and_never_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (target, file) = (dir.path().join("target"), dir.path().join("file"));
        fs::write(&target, "untouched").unwrap();
        symlink(&target, &file).unwrap();
        symlink(&target, dir.path().join(".file.new")).unwrap();
        write(&file, b"new", 0o600, Durability::None).unwrap();
        assert!(fs::symlink_metadata(&file).unwrap().is_file());
        assert_eq!(fs::read(&file).unwrap(), b"new");
        assert_eq!(fs::read(&target).unwrap(), b"untouched");
        assert_eq!(names(dir.path()), ["file", "target"]);
    }

    #[test]
    fn the_leftover_of_a_killed_writer_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let (left, file) = (dir.path().join(".file.new"), dir.path().join("file"));
        fs::write(&left, "a longer text than the new one").unwrap();
        fs::set_permissions(&left, Permissions::from_mode(0o444)).unwrap();
        write(&file, b"new", 0o644, Durability::None).unwrap();
        assert_eq!((fs::read(&file).unwrap(), mode(&file)), (b"new".to_vec(), 0o644));
        assert_eq!(names(dir.path()), ["file"]);
    }

    #[test]
    fn a_second_writer_does_not_touch_the_file_of_the_first() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        let result: io::Result<()> = write_with(&file, 0o644, Durability::None, |new| {
            new.write_all(b"fir")?;
            let second = write(&file, b"second", 0o644, Durability::None).unwrap_err();
            assert_eq!(second.kind(), ErrorKind::ResourceBusy);
            new.write_all(b"st")
        });
        result.unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"first");
    }

    #[test]
    fn many_writers_leave_the_whole_work_of_one_of_them() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        write(&file, &[0; 4096], 0o644, Durability::None).unwrap();
        std::thread::scope(|scope| {
            for byte in 1..=4 {
                let file = &file;
                scope.spawn(move || {
                    for _ in 0..200 {
                        let written = write(file, &[byte; 4096], 0o644, Durability::None);
                        let busy = |error: io::Error| error.kind() == ErrorKind::ResourceBusy;
                        assert!(written.is_ok() || written.is_err_and(busy));
                        let read = fs::read(file).unwrap();
                        assert!(read.len() == 4096 && read.iter().all(|other| *other == read[0]));
                    }
                });
            }
        });
        assert_eq!(names(dir.path()), ["file"]);
    }

    #[test]
    fn a_path_without_a_file_name_is_refused() {
        let error = write(Path::new("/"), b"", 0o644, Durability::None).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn the_file_has_the_new_bytes_and_mode_whatever_was_there(
            old in prop::option::of(prop::collection::vec(any::<u8>(), 0..100)),
            new in prop::collection::vec(any::<u8>(), 0..100),
            mode_bits in 0_u32..0o1000,
            durability in prop::sample::select(&ALL[..]),
        ) {
            let dir = tempfile::tempdir().unwrap();
            let file = dir.path().join("file");
            if let Some(old) = old {
                fs::write(&file, old).unwrap();
            }
            write(&file, &new, mode_bits, durability).unwrap();
            prop_assert_eq!(mode(&file), mode_bits);
            prop_assert_eq!(names(dir.path()), ["file"]);
            fs::set_permissions(&file, Permissions::from_mode(mode_bits | 0o400)).unwrap();
            prop_assert_eq!(fs::read(&file).unwrap(), &new[..]);
            let other = dir.path().join("copy");
            copy(&file, &other, durability).unwrap();
            prop_assert_eq!(mode(&other), mode_bits | 0o400);
            prop_assert_eq!(fs::read(&other).unwrap(), &new[..]);
        }
    }
}
