//! Removes files and whole trees without following links, and without entering other file systems.

use std::ffi::{OsStr, OsString};
use std::io::{self, ErrorKind};
use std::path::Path;

use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags, ResolveFlags};
use rustix::io::Errno;

use super::{BENEATH, Folder, openat2};

/// The number of entries of a tree that are removed in one call.
const ENTRIES_MAX: usize = 1_000_000;

/// The depth to which folders are opened within each other, which bounds stack and descriptors.
/// Deeper ones are moved up first.
const DEPTH_MAX: usize = 32;

/// The number of names that are read at once.
const NAMES_MAX: usize = 256;

/// The number of times that a folder is read, because a program may fill it at the same time.
const ROUNDS_MAX: usize = 100_000;

impl Folder {
    /// Removes a file, a link or a whole tree. A missing one is not an error.
    pub fn remove(&self, path: impl AsRef<Path>) -> io::Result<()> {
        let mut left = ENTRIES_MAX;
        let more = || {
            left -= 1;
            left > 0
        };
        if self.remove_while(path, more)? {
            return Ok(());
        }
        Err(io::Error::other(format!("more than {ENTRIES_MAX} entries")))
    }

    /// Removes a tree, and asks before each entry if it should continue. Returns true if all is
    /// removed.
    pub fn remove_while(
        &self,
        path: impl AsRef<Path>,
        mut more: impl FnMut() -> bool,
    ) -> io::Result<bool> {
        let (parent, name) = match self.parent(path.as_ref()) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(true),
            parent => parent?,
        };
        if !more() {
            return Ok(false);
        }
        if unlink(&parent, name)? {
            return Ok(true);
        }
        let top = enter(&parent, name)?;
        let mut removal = Removal { top: &top, moved: 0, more: &mut more };
        Ok(removal.content(&top, 0)? && unlink(&parent, name)?)
    }
}

struct Removal<'a> {
    /// The folder that deep folders are moved to, and that is emptied last.
    top: &'a Folder,
    moved: u32,
    more: &'a mut dyn FnMut() -> bool,
}

impl Removal<'_> {
    /// Removes all entries of a folder. Returns false if it was asked to stop.
    fn content(&mut self, folder: &Folder, depth: usize) -> io::Result<bool> {
        for _ in 0..ROUNDS_MAX {
            let names = folder.list(NAMES_MAX)?;
            if names.is_empty() {
                return Ok(true);
            }
            for name in &names {
                if !(self.more)() || !self.entry(folder, name, depth)? {
                    return Ok(false);
                }
            }
        }
        Err(Errno::NOTEMPTY.into())
    }

    /// Removes one entry of a folder, or moves it to the top, which is read again.
    fn entry(&mut self, folder: &Folder, name: &OsStr, depth: usize) -> io::Result<bool> {
        if unlink(folder, name)? {
            return Ok(true);
        }
        if depth == DEPTH_MAX {
            return self.move_up(folder, name).map(|()| true);
        }
        let inner = enter(folder, name)?;
        Ok(self.content(&inner, depth + 1)? && unlink(folder, name)?)
    }

    fn move_up(&mut self, folder: &Folder, name: &OsStr) -> io::Result<()> {
        loop {
            self.moved += 1;
            let moved = OsString::from(format!(".removed-{}", self.moved));
            let flags = RenameFlags::NOREPLACE;
            match rustix::fs::renameat_with(folder, name, self.top, &moved, flags) {
                Err(Errno::EXIST) if self.moved < u32::MAX => {}
                renamed => return Ok(renamed?),
            }
        }
    }
}

/// Removes an entry that is not a folder, or an empty folder. Returns false for another folder.
fn unlink(folder: &Folder, name: &OsStr) -> io::Result<bool> {
    match rustix::fs::unlinkat(folder, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(true),
        // Linux says EISDIR for a folder, POSIX says EPERM.
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(error) => return Err(error.into()),
    }
    match rustix::fs::unlinkat(folder, name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(true),
        Err(Errno::NOTEMPTY | Errno::EXIST) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Opens a folder of the same file system.
fn enter(folder: &Folder, name: &OsStr) -> io::Result<Folder> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let resolve = BENEATH | ResolveFlags::NO_XDEV;
    let fd = openat2(folder, name, flags, Mode::empty(), resolve)?;
    Ok(Folder { fd, path: folder.path.join(name) })
}
