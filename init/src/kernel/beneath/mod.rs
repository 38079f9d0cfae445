//! Files below a folder whose content was written by a stranger.
//!
//! A data partition comes from another machine, and pods can mount `/var/log` of the host. So a
//! name below `/var` may be a link to a static pod's manifest, a FIFO that never answers, a folder,
//! or a file of any size. Every access goes through [`Folder`]: `openat2` refuses symbolic links in
//! all parts of a path (Documentation/filesystems/path-lookup.rst; openat2(2)), the type of an
//! opened file is checked, and reads are bounded. Anything of another type in the place of our own
//! file or folder is set aside under another name, because it may be a user's data.
//!
//! Paths are relative to the folder. A disk can hang, so the main thread calls nothing here.

mod remove;
mod replace;
#[cfg(test)]
mod tests;

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, RenameFlags, ResolveFlags, Stat};
use rustix::io::Errno;

use crate::console::kmsg;

/// The number of attempts to make or open an entry that another process keeps changing.
const TRIES_MAX: usize = 8;

/// The number of entries of one name that are set aside. More of them come from a program, and
/// then the entry is an error.
const ASIDE_MAX: usize = 8;

/// The suffix of an entry that was set aside: `boots.set-aside`, `boots.set-aside-2`.
const ASIDE: &str = "set-aside";

const FILE_MODE: Mode = Mode::from_raw_mode(0o644);
const FOLDER_MODE: Mode = Mode::from_raw_mode(0o755);

/// An open folder.
#[derive(Debug)]
pub struct Folder {
    fd: OwnedFd,
    /// The path, for messages.
    path: PathBuf,
}

impl Folder {
    /// Opens a folder by its absolute path, of which no part may be a symbolic link.
    pub fn open(path: &Path) -> io::Result<Self> {
        let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let fd = openat2(CWD, path.as_os_str(), FOLDER, Mode::empty(), resolve);
        Ok(Self { fd: fd.map_err(strange_path)?, path: path.to_owned() })
    }

    /// Opens a folder below this one.
    pub fn folder(&self, path: impl AsRef<Path>) -> io::Result<Self> {
        let (parent, name) = self.parent(path.as_ref())?;
        parent.child(name)
    }

    /// Makes a folder and its parents below this one, mode 0755, unless it exists. Everything else
    /// under one of these names is set aside.
    pub fn make(&self, path: impl AsRef<Path>) -> io::Result<Self> {
        let mut folder = self.duplicate()?;
        for name in names(path.as_ref())? {
            folder = folder.make_child(name)?;
        }
        Ok(folder)
    }

    /// Opens a regular file for reading.
    pub fn file(&self, path: impl AsRef<Path>) -> io::Result<File> {
        let (parent, name) = self.parent(path.as_ref())?;
        parent.regular(name, OFlags::RDONLY).map(|(file, _)| file)
    }

    /// Reads a whole regular file of at most `bytes_max` bytes.
    pub fn read(&self, path: impl AsRef<Path>, bytes_max: u64) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.file(path)?.take(bytes_max.saturating_add(1)).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > bytes_max {
            let text = format!("the file has more than {bytes_max} bytes");
            return Err(io::Error::new(ErrorKind::FileTooLarge, text));
        }
        Ok(bytes)
    }

    /// Opens an existing regular file that has no other name, for writing at its end.
    pub fn edit(&self, path: impl AsRef<Path>) -> io::Result<File> {
        let (parent, name) = self.parent(path.as_ref())?;
        parent.writable(name)
    }

    /// Opens a regular file for writing at its end, and makes it if it does not exist. Everything
    /// else under this name is set aside, a file with a second name too.
    pub fn append(&self, path: impl AsRef<Path>) -> io::Result<File> {
        let (parent, name) = self.parent(path.as_ref())?;
        for _ in 0..TRIES_MAX {
            match parent.writable(name) {
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    let flags = APPEND | OFlags::CREATE | OFlags::EXCL;
                    match openat2(&parent, name, flags, FILE_MODE, BENEATH) {
                        Err(Errno::EXIST) => {}
                        file => return Ok(file?.into()),
                    }
                }
                Err(error) if is_strange(&error) => parent.set_aside(name)?,
                file => return file,
            }
        }
        Err(ErrorKind::ResourceBusy.into())
    }

    /// Returns the names of at most `entries_max` entries of this folder, in no order.
    pub fn list(&self, entries_max: usize) -> io::Result<Vec<OsString>> {
        let mut names = Vec::new();
        let mut entries = Dir::new(self.readable()?)?;
        while let Some(entry) = entries.read() {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if name == b"." || name == b".." {
                continue;
            }
            if names.len() == entries_max {
                break;
            }
            names.push(OsString::from_vec(name.to_vec()));
        }
        Ok(names)
    }

    /// Returns the metadata of an entry, which may be a link, without following it.
    pub fn metadata(&self, path: impl AsRef<Path>) -> io::Result<Stat> {
        let (parent, name) = self.parent(path.as_ref())?;
        Ok(rustix::fs::statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW)?)
    }

    /// Sets the mode of the folder itself.
    pub fn set_mode(&self, mode: u32) -> io::Result<()> {
        let mode = Mode::from_raw_mode(mode);
        Ok(rustix::fs::chmodat(self, c".", mode, AtFlags::empty())?)
    }

    /// Returns the path of an entry, for messages.
    #[must_use]
    pub fn path_of(&self, path: impl AsRef<Path>) -> PathBuf {
        self.path.join(path)
    }

    /// Renames an entry within its folder to `NAME.set-aside` and reports it.
    pub fn set_aside(&self, path: impl AsRef<Path>) -> io::Result<()> {
        let (parent, name) = self.parent(path.as_ref())?;
        for number in 1..=ASIDE_MAX {
            let mut aside = name.to_owned();
            aside.push(format!(".{ASIDE}"));
            if number > 1 {
                aside.push(format!("-{number}"));
            }
            match rustix::fs::renameat_with(&parent, name, &parent, &aside, RenameFlags::NOREPLACE)
            {
                Err(Errno::EXIST) => {}
                Err(Errno::NOENT) => return Ok(()),
                renamed => {
                    renamed?;
                    let path = parent.path.join(name);
                    let (path, aside) = (path.display(), aside.display());
                    kmsg::warn(format_args!("{path} was not ours, renamed to {aside}"));
                    return Ok(());
                }
            }
        }
        Err(io::Error::new(ErrorKind::AlreadyExists, "too many entries were set aside"))
    }

    /// Opens the folder itself again, because names cannot be read from an `O_PATH` descriptor.
    fn readable(&self) -> io::Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(rustix::fs::openat(self, c".", flags, Mode::empty())?)
    }

    fn duplicate(&self) -> io::Result<Self> {
        Ok(Self { fd: self.fd.try_clone()?, path: self.path.clone() })
    }

    /// Splits off the last name and opens the folder before it.
    fn parent<'a>(&self, path: &'a Path) -> io::Result<(Self, &'a OsStr)> {
        let names = names(path)?;
        let Some((name, before)) = names.split_last() else {
            return Err(ErrorKind::InvalidInput.into());
        };
        if before.is_empty() {
            return Ok((self.duplicate()?, name));
        }
        let before: PathBuf = before.iter().collect();
        let fd = openat2(self, before.as_os_str(), FOLDER, Mode::empty(), BENEATH);
        Ok((Self { fd: fd.map_err(strange_path)?, path: self.path.join(before) }, name))
    }

    fn child(&self, name: &OsStr) -> io::Result<Self> {
        let fd = openat2(self, name, FOLDER, Mode::empty(), BENEATH);
        let fd = fd.map_err(|error| self.judge(name, error, FileType::Directory))?;
        Ok(Self { fd, path: self.path.join(name) })
    }

    fn make_child(&self, name: &OsStr) -> io::Result<Self> {
        for _ in 0..TRIES_MAX {
            match self.child(name) {
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    match rustix::fs::mkdirat(self, name, FOLDER_MODE) {
                        Ok(()) | Err(Errno::EXIST) => {}
                        Err(error) => return Err(error.into()),
                    }
                }
                Err(error) if is_strange(&error) => self.set_aside(name)?,
                folder => return folder,
            }
        }
        Err(ErrorKind::ResourceBusy.into())
    }

    fn writable(&self, name: &OsStr) -> io::Result<File> {
        let (file, stat) = self.regular(name, APPEND)?;
        if stat.st_nlink > 1 {
            return Err(strange("the file has a second name"));
        }
        Ok(file)
    }

    /// Opens a regular file. `O_NONBLOCK` keeps a FIFO from waiting for its other end.
    fn regular(&self, name: &OsStr, flags: OFlags) -> io::Result<(File, Stat)> {
        let flags = flags | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let fd = openat2(self, name, flags, Mode::empty(), BENEATH)
            .map_err(|error| self.judge(name, error, FileType::RegularFile))?;
        let stat = rustix::fs::fstat(&fd)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Ok((fd.into(), stat)),
            other => Err(not_a(FileType::RegularFile, other)),
        }
    }

    /// Returns the error for a failed open: an entry of another type than `wanted` if there is one.
    fn judge(&self, name: &OsStr, error: Errno, wanted: FileType) -> io::Error {
        let found = rustix::fs::statat(self, name, AtFlags::SYMLINK_NOFOLLOW);
        match found.map(|stat| FileType::from_raw_mode(stat.st_mode)) {
            Ok(found) if found != wanted => not_a(wanted, found),
            _ => error.into(),
        }
    }
}

impl AsFd for Folder {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// True if the error says that an entry has another type than expected, so that it can be
/// [set aside](Folder::set_aside).
#[must_use]
pub fn is_strange(error: &io::Error) -> bool {
    error.get_ref().is_some_and(<dyn std::error::Error + Send + Sync>::is::<Strange>)
}

/// An entry of an unexpected type.
#[derive(Debug)]
struct Strange(&'static str);

impl std::fmt::Display for Strange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for Strange {}

const FOLDER: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
const APPEND: OFlags = OFlags::WRONLY.union(OFlags::APPEND).union(OFlags::CLOEXEC);
const BENEATH: ResolveFlags =
    ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS).union(ResolveFlags::NO_MAGICLINKS);

/// Calls `openat2`, again if a rename elsewhere disturbed the check of `RESOLVE_BENEATH`.
fn openat2(
    folder: impl AsFd,
    path: &OsStr,
    flags: OFlags,
    mode: Mode,
    resolve: ResolveFlags,
) -> rustix::io::Result<OwnedFd> {
    for _ in 1..TRIES_MAX {
        match rustix::fs::openat2(&folder, path, flags, mode, resolve) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            result => return result,
        }
    }
    rustix::fs::openat2(&folder, path, flags, mode, resolve)
}

/// Returns the names in a relative path. Anything but names is the caller's mistake.
fn names(path: &Path) -> io::Result<Vec<&OsStr>> {
    let name = |part| match part {
        Component::Normal(name) => Ok(name),
        _ => Err(io::Error::from(ErrorKind::InvalidInput)),
    };
    path.components().map(name).collect()
}

fn strange(text: &'static str) -> io::Error {
    io::Error::new(ErrorKind::InvalidInput, Strange(text))
}

fn not_a(wanted: FileType, found: FileType) -> io::Error {
    if wanted == FileType::Directory {
        return strange("not a folder");
    }
    strange(match found {
        FileType::Symlink => "a symbolic link instead of a file",
        FileType::Directory => "a folder instead of a file",
        FileType::Fifo => "a FIFO instead of a file",
        FileType::Socket => "a socket instead of a file",
        _ => "a device instead of a file",
    })
}

/// Returns the error for a path of which a part is not a folder.
fn strange_path(error: Errno) -> io::Error {
    match error {
        Errno::LOOP => strange("a part of the path is a symbolic link"),
        Errno::NOTDIR => strange("a part of the path is not a folder"),
        other => other.into(),
    }
}
