//! The walk through a folder: the files that have a path, and the reasons why other names do not.
//!
//! Links are followed as long as they stay inside the folder. The kernel checks that (`openat2(2)`
//! with `RESOLVE_BENEATH`), so a link that changes in the meantime cannot lead out either. Names
//! that begin with a dot are left out, except `/.well-known`, but a link may point to them, because
//! kubelet lays out a `ConfigMap` in that way.
//!
//! Several threads share the walk, because most of its time passes in system calls for single files.
//! [`crew`](super::crew) divides the work.

use std::ffi::CStr;
use std::fs::File;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, RawDir, ResolveFlags, Stat, fstat, openat, openat2,
    statat,
};
use rustix::io::Errno;

use crate::folder::crew::{Crew, Hire, Names, Open, Task, Way};

/// The most nested folders. Each needs a descriptor and a part of the stack during the walk.
const DEPTH_MAX: usize = 128;

/// The bytes for the names that one system call returns.
const NAMES_BYTES: usize = 16 << 10;

/// The number of names that a thread handles in one piece.
const PIECE: usize = 128;

/// The state of a folder. As long as it is the same, no file was added, removed or written.
///
/// The value is the sum, over all files, of a hash of path, device, inode, size and times.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Signature(u64);

/// The receiver of the files and names that one thread of a walk finds.
pub trait Visitor: Send {
    /// True if files are opened for the visitor.
    const OPENS: bool;

    /// Handles a file with its metadata. The file is open if [`Self::OPENS`].
    fn file(&mut self, path: &[u8], file: Option<File>, stat: &Stat) -> Result<(), Trouble>;

    /// Handles a name that has no content.
    fn trouble(&mut self, path: &[u8], trouble: Trouble);

    /// Ends the thread's part, in that thread.
    fn finish(&mut self) {}
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

/// Walks through a folder with at most this many threads, each of which has a visitor of its own.
/// The order of visits is undefined. An error means that the folder itself cannot be opened.
pub fn walk<V: Visitor>(
    root: &Path,
    threads: usize,
    visitor: impl Fn() -> V + Sync,
) -> io::Result<(Signature, Vec<V>)> {
    // Links on the way to the root are followed, because git-sync and others switch revisions
    // there.
    let root = openat(CWD, root, FOLDER, Mode::empty())?;
    let top = root.try_clone()?;
    let crew = Crew::new(threads);
    let top =
        Mutex::new(Some(Task::Folder { open: top, path: b"/".to_vec(), way: Way::default() }));
    let results = crew.run(|hire| {
        let (root, visitor) = (root.as_fd(), visitor());
        let mut walk = Walk { root, crew: &crew, hire, visitor, path: Vec::new(), sum: 0 };
        // Only the first thread has the task to begin with.
        let first = hire.and_then(|_| top.lock().unwrap_or_else(PoisonError::into_inner).take());
        let mut next = first.or_else(|| crew.next());
        while let Some(task) = next {
            walk.task(task);
            next = crew.next();
        }
        walk.visitor.finish();
        (walk.sum, walk.visitor)
    });
    let sum = results.iter().fold(0, |sum: u64, (part, _)| sum.wrapping_add(*part));
    Ok((Signature(sum), results.into_iter().map(|(_, visitor)| visitor).collect()))
}

/// Walks through a folder without reading its files.
pub fn survey(root: &Path, threads: usize) -> io::Result<Survey> {
    let (signature, parts) = walk(root, threads, Sizes::default)?;
    Ok(Survey { signature, sizes: parts.into_iter().flat_map(|part| part.0).collect() })
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
    const OPENS: bool = false;

    fn file(&mut self, _: &[u8], _: Option<File>, stat: &Stat) -> Result<(), Trouble> {
        self.0.push(u64::try_from(stat.st_size).unwrap_or(0));
        Ok(())
    }

    fn trouble(&mut self, _: &[u8], _: Trouble) {}
}

/// One thread's part of a walk.
struct Walk<'a, V> {
    root: BorrowedFd<'a>,
    crew: &'a Crew,
    hire: Hire<'a>,
    visitor: V,
    /// The path of the current name; kept only for its memory.
    path: Vec<u8>,
    sum: u64,
}

impl<V: Visitor> Walk<'_, V> {
    fn task(&mut self, task: Task) {
        match task {
            Task::Folder { open, mut path, way } => {
                if let Err(trouble) = self.folder(open, &path, &way) {
                    if path.len() > 1 {
                        path.truncate(path.len() - 1);
                    }
                    self.trouble(&path, trouble);
                }
            }
            Task::Names(open, names) => self.names(&open, &names),
        }
    }

    /// Visits everything in an open folder, whose path ends with a slash.
    fn folder(&mut self, folder: OwnedFd, path: &[u8], way: &Way) -> Result<(), Trouble> {
        let stat = fstat(&folder)?;
        let identity = (stat.st_dev, stat.st_ino);
        if way.has(identity) {
            return Err(Trouble::Nowhere);
        }
        if way.depth() == DEPTH_MAX {
            let text = format!("it is nested deeper than {DEPTH_MAX} folders");
            return Err(Trouble::Unreadable(io::Error::other(text)));
        }
        let open = Arc::new(Open { fd: folder, path: path.into(), way: way.to(identity) });
        let (names, result) = self.list(&open);
        self.names(&open, &names);
        result
    }

    /// Lists a folder, and hands out its names in pieces. Returns the names that are left, and all
    /// folders below.
    fn list(&mut self, open: &Arc<Open>) -> (Names, Result<(), Trouble>) {
        let mut buffer = vec![MaybeUninit::uninit(); NAMES_BYTES];
        let mut list = RawDir::new(&open.fd, &mut buffer);
        let (mut names, mut below) = (Names::default(), Names::default());
        let mut result = Ok(());
        while let Some(entry) = list.next() {
            let entry = match entry {
                Ok(entry) => entry,
                Err(errno) => {
                    result = Err(errno.into());
                    break;
                }
            };
            let name = entry.file_name().to_bytes();
            let is_known = &*open.path == b"/" && name == b".well-known";
            if name.starts_with(b".") && !is_known {
                continue;
            }
            let is_folder = entry.file_type() == FileType::Directory;
            if is_folder { &mut below } else { &mut names }
                .push(entry.file_type(), entry.file_name());
            if names.len() == PIECE
                && let Some(Task::Names(_, names)) =
                    self.offer(Task::Names(Arc::clone(open), std::mem::take(&mut names)))
            {
                self.names(open, &names);
            }
        }
        names.append(&below);
        (names, result)
    }

    fn names(&mut self, open: &Arc<Open>, names: &Names) {
        let mut path = std::mem::take(&mut self.path);
        for (kind, name) in names.iter() {
            path.clear();
            path.extend_from_slice(&open.path);
            path.extend_from_slice(name.to_bytes());
            if let Err(trouble) = self.name(open, name, kind, &path) {
                self.trouble(&path, trouble);
            }
        }
        self.path = path;
    }

    /// Visits a name, and everything below it if it is a folder.
    fn name(
        &mut self,
        open: &Open,
        name: &CStr,
        kind: FileType,
        path: &[u8],
    ) -> Result<(), Trouble> {
        match kind {
            FileType::RegularFile => self.plain(open.fd.as_fd(), name, path),
            FileType::Directory => {
                let flags = FOLDER.union(OFlags::NOFOLLOW);
                let below = openat(&open.fd, name, flags, Mode::empty())?;
                self.below(below, path, &open.way)
            }
            FileType::Symlink | FileType::Unknown => self.link(path, &open.way),
            _ => Err(Trouble::Nowhere),
        }
    }

    fn offer(&self, task: Task) -> Option<Task> {
        self.crew.offer(task, self.hire)
    }

    /// Lets another thread visit a folder, or visits it if all threads have work.
    fn below(&mut self, open: OwnedFd, path: &[u8], way: &Way) -> Result<(), Trouble> {
        let path = [path, b"/"].concat();
        match self.offer(Task::Folder { open, path, way: way.clone() }) {
            Some(Task::Folder { open, path, way }) => self.folder(open, &path, &way),
            _ => Ok(()),
        }
    }

    /// Visits a name that is not a link.
    fn plain(&mut self, folder: BorrowedFd<'_>, name: &CStr, path: &[u8]) -> Result<(), Trouble> {
        let stat = || statat(folder, name, AtFlags::SYMLINK_NOFOLLOW);
        if !V::OPENS {
            self.file(path, Ok(None), &stat()?);
            return Ok(());
        }
        match openat(folder, name, FILE.union(OFlags::NOFOLLOW), Mode::empty()) {
            Ok(open) => {
                let stat = fstat(&open)?;
                let is_file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
                let file = if is_file { Ok(Some(open.into())) } else { Err(Trouble::Nowhere) };
                self.file(path, file, &stat);
            }
            // The state of the folder must be the same as that found without opening files.
            Err(errno) => self.file(path, Err(errno.into()), &stat()?),
        }
        Ok(())
    }

    /// Visits the target of a link, under the link's path.
    fn link(&mut self, path: &[u8], way: &Way) -> Result<(), Trouble> {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        let open = openat2(self.root, &path[1..], FILE, Mode::empty(), resolve)?;
        let stat = fstat(&open)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => self.below(open, path, way),
            FileType::RegularFile => {
                self.file(path, Ok(Some(open.into())), &stat);
                Ok(())
            }
            _ => Err(Trouble::Nowhere),
        }
    }

    fn file(&mut self, path: &[u8], file: Result<Option<File>, Trouble>, stat: &Stat) {
        let times = (stat.st_mtime, stat.st_mtime_nsec, stat.st_ctime, stat.st_ctime_nsec);
        self.add(path, &(stat.st_dev, stat.st_ino, stat.st_size, times));
        // The outcome must not affect the folder's state: only some visitors open files, and a walk
        // without reading must find the same state as a walk with reading.
        if let Err(trouble) = file.and_then(|file| self.visitor.file(path, file, stat)) {
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
