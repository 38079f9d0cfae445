//! Replaces a file or a link: readers find either the old or the new one, never a half-written file.
//!
//! Unlike [`kiln_base::replace`], the new file has no name while it is written (`O_TMPFILE`, open(2)),
//! so that there is nothing that a stranger can plant, open or exchange. It gets a random name only to
//! be renamed, because a link cannot replace another one.

use std::collections::hash_map::RandomState;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::hash::{BuildHasher, Hasher};
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsRawFd;
use std::path::Path;

use kiln_base::replace::Durability;
use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;

use super::{Folder, TRIES_MAX};

/// The size of a file that tries if files can be written: a block of most file systems.
const PROBE: usize = 4096;

impl Folder {
    /// Replaces a file with these bytes and exactly this mode. A folder under this name is set aside.
    pub fn replace(
        &self,
        path: impl AsRef<Path>,
        bytes: &[u8],
        mode: u32,
        durability: Durability,
    ) -> io::Result<()> {
        let (parent, name) = self.parent(path.as_ref())?;
        let mode = Mode::from_raw_mode(mode);
        let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
        let mut file = File::from(rustix::fs::openat(&parent, c".", flags, mode)?);
        rustix::fs::fchmod(&file, mode)?;
        file.write_all(bytes)?;
        if durability != Durability::None {
            file.sync_all()?;
        }
        // Only a process with CAP_DAC_READ_SEARCH may name a descriptor itself; its link in /proc
        // does the same (open(2), O_TMPFILE).
        let source = format!("/proc/self/fd/{}", file.as_raw_fd());
        parent.put(name, |temporary| {
            rustix::fs::linkat(CWD, &source, &parent, temporary, AtFlags::SYMLINK_FOLLOW)
        })?;
        if durability == Durability::FileAndFolder {
            parent.sync()?;
        }
        Ok(())
    }

    /// Tries to write a file without a name, which ends with this call.
    pub fn try_write(&self) -> io::Result<()> {
        let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
        let file = rustix::fs::openat(self, c".", flags, Mode::RUSR | Mode::WUSR)?;
        File::from(file).write_all(&[0; PROBE])
    }

    /// Replaces a symbolic link, unless it has this target. Nothing here ever follows it. A folder
    /// under this name is set aside.
    pub fn link(&self, path: impl AsRef<Path>, target: &str) -> io::Result<()> {
        let (parent, name) = self.parent(path.as_ref())?;
        let found = rustix::fs::readlinkat(&parent, name, Vec::new());
        if found.is_ok_and(|found| found.to_bytes() == target.as_bytes()) {
            return Ok(());
        }
        parent.put(name, |temporary| rustix::fs::symlinkat(target, &parent, temporary))
    }

    /// Renames an entry within its folder. A folder under the new name is set aside.
    pub fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let (parent, name) = self.parent(Path::new(from))?;
        parent.rename_over(name, to.as_ref())
    }

    /// Makes an entry under a random name and gives it the name that readers know.
    fn put(&self, name: &OsStr, make: impl Fn(&OsStr) -> rustix::io::Result<()>) -> io::Result<()> {
        for _ in 0..TRIES_MAX {
            let temporary = temporary_name(name);
            match make(&temporary) {
                Err(Errno::EXIST) => continue,
                result => result?,
            }
            let renamed = self.rename_over(&temporary, name);
            if renamed.is_err() {
                // If this fails, a small file with a strange name stays.
                let _ = rustix::fs::unlinkat(self, &temporary, AtFlags::empty());
            }
            return renamed;
        }
        Err(ErrorKind::ResourceBusy.into())
    }

    fn rename_over(&self, from: &OsStr, to: &OsStr) -> io::Result<()> {
        for _ in 0..TRIES_MAX {
            match rustix::fs::renameat(self, from, self, to) {
                Err(Errno::ISDIR | Errno::NOTEMPTY | Errno::EXIST) => self.set_aside(to)?,
                renamed => return Ok(renamed?),
            }
        }
        Err(ErrorKind::ResourceBusy.into())
    }

    /// Waits until the names in this folder are on the disk.
    fn sync(&self) -> io::Result<()> {
        File::from(self.readable()?).sync_all()
    }
}

/// Returns `.NAME.RANDOM.new`. The dot hides it from programs that read every file of a folder.
fn temporary_name(name: &OsStr) -> OsString {
    let mut temporary = OsString::from(".");
    temporary.push(name);
    // The keys of a new state come from the kernel's random numbers.
    temporary.push(format!(".{:016x}.new", RandomState::new().build_hasher().finish()));
    temporary
}
