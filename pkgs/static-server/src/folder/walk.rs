//! The walk through a folder: the files that have a path, and the reasons why other names do not.
//!
//! Links are followed as long as they stay inside the folder. The kernel checks that (`openat2(2)`
//! with `RESOLVE_BENEATH`), so a link that changes in the meantime cannot lead out either. Names
//! that begin with a dot are left out, except `/.well-known`, but a link may point to them, because
//! kubelet lays out a `ConfigMap` in that way.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Mode, OFlags, ResolveFlags, Stat, fstat, openat, openat2, statat,
};
use rustix::io::Errno;

/// The most nested folders. Each needs a descriptor and a part of the stack during the walk.
const DEPTH_MAX: usize = 128;

/// The state of a folder. As long as it is the same, no file was added, removed or written.
///
/// The value is the sum, over all files, of a hash of path, device, inode, size and times.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Signature(u64);

/// The receiver of the files and names that a walk finds.
pub trait Visitor {
    /// Handles a file, with the place to open it at and its metadata.
    fn file(&mut self, path: &[u8], place: &Place<'_>, stat: &Stat) -> Result<(), Trouble>;

    /// Handles a name that has no content.
    fn trouble(&mut self, path: &[u8], trouble: Trouble);
}

/// The way to open a file.
#[derive(Debug)]
pub enum Place<'a> {
    /// A name in an open folder; the name is not a link.
    Name(BorrowedFd<'a>, &'a std::ffi::CStr),
    /// The open target of a link.
    Open(&'a OwnedFd),
}

impl Place<'_> {
    /// Opens the file for reading.
    pub fn open(&self) -> Result<std::fs::File, Trouble> {
        match self {
            Self::Name(folder, name) => {
                let flags = FILE.union(OFlags::NOFOLLOW);
                Ok(openat(folder, *name, flags, Mode::empty())?.into())
            }
            Self::Open(file) => Ok(file.try_clone()?.into()),
        }
    }
}

/// Non-blocking, because the name may belong to a FIFO.
const FILE: OFlags = OFlags::RDONLY.union(OFlags::NONBLOCK).union(OFlags::CLOEXEC);
const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// The reason why a name has no content.
#[derive(Debug)]
pub enum Trouble {
    /// The name is a link that leaves the folder, dangles or loops, or it is neither a file nor a
    /// folder.
    Nowhere,
    /// The name may have content, but cannot be read.
    Unreadable(io::Error),
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Unreadable(error)
    }
}

impl From<Errno> for Trouble {
    fn from(errno: Errno) -> Self {
        match errno {
            Errno::XDEV | Errno::LOOP | Errno::NOENT => Self::Nowhere,
            _ => Self::Unreadable(errno.into()),
        }
    }
}

/// Walks through a folder. An error means that the folder itself cannot be opened.
pub fn walk(root: &Path, visitor: &mut dyn Visitor) -> io::Result<Signature> {
    // Links on the way to the root are followed, because git-sync and others switch revisions
    // there.
    let root = openat(CWD, root, FOLDER, Mode::empty())?;
    let mut walk = Walk { root: root.as_fd(), visitor, above: Vec::new(), sum: 0 };
    let top = root.try_clone()?;
    if let Err(trouble) = walk.folder(top, &mut b"/".to_vec()) {
        walk.trouble(b"/", trouble);
    }
    Ok(Signature(walk.sum))
}

/// Walks through a folder without reading its files.
pub fn survey(root: &Path) -> io::Result<Survey> {
    let mut sizes = Sizes::default();
    let signature = walk(root, &mut sizes)?;
    Ok(Survey { signature, sizes: sizes.0 })
}

/// The result of a walk that reads no file.
#[derive(Debug)]
pub struct Survey {
    /// The state of the folder.
    pub signature: Signature,
    /// The size of every file, in bytes.
    pub sizes: Vec<u64>,
}

#[derive(Default)]
struct Sizes(Vec<u64>);

impl Visitor for Sizes {
    fn file(&mut self, _: &[u8], _: &Place<'_>, stat: &Stat) -> Result<(), Trouble> {
        self.0.push(u64::try_from(stat.st_size).unwrap_or(0));
        Ok(())
    }

    fn trouble(&mut self, _: &[u8], _: Trouble) {}
}

struct Walk<'a> {
    root: BorrowedFd<'a>,
    visitor: &'a mut dyn Visitor,
    /// Device and inode of the folders above. A link to one of them is a loop.
    above: Vec<(u64, u64)>,
    sum: u64,
}

impl Walk<'_> {
    /// Visits everything in an open folder, whose path ends with a slash.
    fn folder(&mut self, folder: OwnedFd, path: &mut Vec<u8>) -> Result<(), Trouble> {
        let stat = fstat(&folder)?;
        let identity = (stat.st_dev, stat.st_ino);
        if self.above.contains(&identity) {
            return Err(Trouble::Nowhere);
        }
        if self.above.len() == DEPTH_MAX {
            let text = format!("it is nested deeper than {DEPTH_MAX} folders");
            return Err(Trouble::Unreadable(io::Error::other(text)));
        }
        self.above.push(identity);
        let result = self.names(Dir::new(folder)?, path);
        self.above.pop();
        result
    }

    fn names(&mut self, mut folder: Dir, path: &mut Vec<u8>) -> Result<(), Trouble> {
        while let Some(entry) = folder.read() {
            let entry = entry?;
            let name = entry.file_name();
            let bytes = name.to_bytes();
            if bytes.starts_with(b".") && (path != b"/" || bytes != b".well-known") {
                continue;
            }
            let length = path.len();
            path.extend_from_slice(bytes);
            if let Err(trouble) = self.name(folder.fd()?, name, entry.file_type(), path) {
                path.truncate(length + bytes.len());
                self.trouble(path, trouble);
            }
            path.truncate(length);
        }
        Ok(())
    }

    /// Visits a name, and everything below it if it is a folder.
    fn name(
        &mut self,
        folder: BorrowedFd<'_>,
        name: &std::ffi::CStr,
        kind: FileType,
        path: &mut Vec<u8>,
    ) -> Result<(), Trouble> {
        match kind {
            FileType::RegularFile => {
                let stat = statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)?;
                self.file(path, &Place::Name(folder, name), &stat);
                Ok(())
            }
            FileType::Directory => {
                let below = openat(folder, name, FOLDER.union(OFlags::NOFOLLOW), Mode::empty())?;
                path.push(b'/');
                self.folder(below, path)
            }
            FileType::Symlink | FileType::Unknown => self.link(path),
            _ => Err(Trouble::Nowhere),
        }
    }

    /// Visits the target of a link, under the link's path.
    fn link(&mut self, path: &mut Vec<u8>) -> Result<(), Trouble> {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        let open = openat2(self.root, &path[1..], FILE, Mode::empty(), resolve)?;
        let stat = fstat(&open)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                path.push(b'/');
                self.folder(open, path)
            }
            FileType::RegularFile => {
                self.file(path, &Place::Open(&open), &stat);
                Ok(())
            }
            _ => Err(Trouble::Nowhere),
        }
    }

    fn file(&mut self, path: &[u8], place: &Place<'_>, stat: &Stat) {
        let times = (stat.st_mtime, stat.st_mtime_nsec, stat.st_ctime, stat.st_ctime_nsec);
        self.add(path, &(stat.st_dev, stat.st_ino, stat.st_size, times));
        // The outcome must not affect the folder's state: only some visitors open files, and a walk
        // without reading must find the same state as a walk with reading.
        if let Err(trouble) = self.visitor.file(path, place, stat) {
            self.visitor.trouble(path, trouble);
        }
    }

    fn trouble(&mut self, path: &[u8], trouble: Trouble) {
        self.add(path, &matches!(trouble, Trouble::Nowhere));
        self.visitor.trouble(path, trouble);
    }

    fn add(&mut self, path: &[u8], fact: &impl std::hash::Hash) {
        let mut hasher = DefaultHasher::new();
        path.hash(&mut hasher);
        fact.hash(&mut hasher);
        self.sum = self.sum.wrapping_add(hasher.finish());
    }
}
