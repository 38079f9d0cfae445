//! The index: every path that has an answer, with that answer.
//!
//! A folder is read once. Links are followed as long as they stay inside it, which the kernel
//! checks (`openat2(2)` with `RESOLVE_BENEATH`), so a link that is changed meanwhile cannot lead out
//! either. Names that begin with a dot are left out (`/.well-known` is not), but a link may point
//! to them: that is how kubelet lays out a `ConfigMap`.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::rc::Rc;

use anyhow::{Context as _, bail};
use rustix::fs::{CWD, Dir, FileType, Mode, OFlags, ResolveFlags, fstat, openat, openat2};
use rustix::io::Errno;

use crate::media::media_type;
use crate::resource::Resource;

/// Most bytes of content that are held in memory.
const MEMORY_LIMIT: u64 = 256 << 20;

/// Most folders in one another; a tree of links could otherwise be without end.
const MAX_DEPTH: usize = 32;

/// What a path leads to.
#[derive(Debug)]
pub enum Entry {
    /// A ready answer.
    Resource(Rc<Resource>),
    /// A folder with an index page, asked for without the slash at its end.
    Folder,
}

/// The index.
#[derive(Debug, Default)]
pub struct Site {
    entries: HashMap<Box<[u8]>, Entry>,
    bytes: u64,
    /// Files and folders that could not be read: the site is not ready then.
    unread: usize,
}

impl Site {
    /// Reads a folder; an error means that there is nothing to serve.
    ///
    /// A part that cannot be read is logged, and makes `/ready` a 503 while the rest is served.
    pub fn load(folder: &Path) -> anyhow::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = openat(CWD, folder, flags, Mode::empty())
            .with_context(|| format!("opening the folder {}", folder.display()))?;
        let mut site = Self::default();
        let mut walk = Walk { root: root.as_fd(), site: &mut site, above: Vec::new() };
        let result = walk.folder(&root, b"/");
        if site.settle(b"/", result).is_err() {
            let limit = MEMORY_LIMIT >> 20;
            bail!("the content of {} is larger than {limit} MiB", folder.display());
        }
        site.add_health();
        Ok(site)
    }

    /// A site of given paths and texts.
    #[must_use]
    pub fn from_files<'a>(files: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let mut site = Self::default();
        for (path, text) in files {
            site.add(path.as_bytes(), text.as_bytes().into());
        }
        site.add_health();
        site
    }

    /// Looks a decoded path up.
    #[must_use]
    pub fn find(&self, path: &[u8]) -> Option<&Entry> {
        self.entries.get(path)
    }

    /// Number of paths.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is no path at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Bytes of content.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Adds a file; an index page is its folder's content too.
    fn add(&mut self, path: &[u8], body: Box<[u8]>) {
        self.bytes += body.len() as u64;
        let resource = Rc::new(Resource::file(media_type(path), body));
        if let Some(folder) = path.strip_suffix(b"index.html").filter(|path| path.ends_with(b"/")) {
            self.entries.insert(folder.into(), Entry::Resource(Rc::clone(&resource)));
            if folder != b"/" {
                self.entries.insert(folder[..folder.len() - 1].into(), Entry::Folder);
            }
        }
        self.entries.insert(path.into(), Entry::Resource(resource));
    }

    fn add_health(&mut self) {
        let ready = match self.unread {
            0 => Resource::state("200 OK", "ok\n"),
            _ => Resource::state("503 Service Unavailable", "a part of the content is missing\n"),
        };
        for (path, resource) in [("/health", Resource::state("200 OK", "ok\n")), ("/ready", ready)]
        {
            let entry = Entry::Resource(Rc::new(resource));
            self.entries.entry(path.as_bytes().into()).or_insert(entry);
        }
    }

    /// Reports what a name was left out for, and goes on if that is possible.
    fn settle(&mut self, path: &[u8], result: Result<(), Trouble>) -> Result<(), Trouble> {
        let path = String::from_utf8_lossy(path);
        match result {
            Err(Trouble::Nowhere) => {
                tracing::warn!("{path} leads outside, nowhere or back, or is no file: left out");
            }
            Err(Trouble::Unreadable(error)) => {
                tracing::warn!("{path} cannot be read: {error}");
                self.unread += 1;
            }
            fatal => return fatal,
        }
        Ok(())
    }
}

/// One walk through the folder.
struct Walk<'a> {
    root: BorrowedFd<'a>,
    site: &'a mut Site,
    /// Device and inode of the folders on the way down: a link to one of them is a loop.
    above: Vec<(u64, u64)>,
}

impl Walk<'_> {
    /// Reads everything in an open folder, whose path ends with a slash.
    fn folder(&mut self, folder: &OwnedFd, path: &[u8]) -> Result<(), Trouble> {
        let stat = fstat(folder)?;
        let identity = (stat.st_dev, stat.st_ino);
        if self.above.contains(&identity) || self.above.len() == MAX_DEPTH {
            return Err(Trouble::Nowhere);
        }
        let names = names(folder, path)?;
        self.above.push(identity);
        for name in names {
            let path = [path, &name].concat();
            let result = self.entry(&path);
            self.site.settle(&path, result)?;
        }
        self.above.pop();
        Ok(())
    }

    /// Reads a file or folder by its path below the root.
    fn entry(&mut self, path: &[u8]) -> Result<(), Trouble> {
        // Not blocking: the name may be that of a FIFO.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        let file = openat2(self.root, &path[1..], flags, Mode::empty(), resolve)?;
        match FileType::from_raw_mode(fstat(&file)?.st_mode) {
            FileType::Directory => self.folder(&file, &[path, b"/"].concat()),
            FileType::RegularFile => self.file(file.into(), path),
            _ => Err(Trouble::Nowhere),
        }
    }

    /// Reads a file whole, as long as there is room for it.
    fn file(&mut self, file: File, path: &[u8]) -> Result<(), Trouble> {
        let room = MEMORY_LIMIT - self.site.bytes;
        let mut body = Vec::new();
        let length = file.take(room + 1).read_to_end(&mut body)?;
        if length as u64 > room {
            return Err(Trouble::TooLarge);
        }
        self.site.add(path, body.into());
        Ok(())
    }
}

/// Names in a folder that have a path, sorted.
fn names(folder: &OwnedFd, path: &[u8]) -> io::Result<Vec<Vec<u8>>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if !name.starts_with(b".") || (path == b"/" && name == b".well-known") {
            names.push(name.to_vec());
        }
    }
    names.sort();
    Ok(names)
}

/// Why a name has no content.
#[derive(Debug)]
enum Trouble {
    /// A link out of the folder, to nothing or back up; or neither file nor folder.
    Nowhere,
    /// It may be content, but cannot be read.
    Unreadable(io::Error),
    /// All together does not fit into memory.
    TooLarge,
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

#[cfg(test)]
mod tests {
    use super::{Entry, Site};
    use std::fs;
    use std::os::unix::fs::symlink;

    fn text(site: &Site, path: &str) -> Option<String> {
        match site.find(path.as_bytes())? {
            Entry::Resource(resource) => Some(String::from_utf8_lossy(&resource.body).into_owned()),
            Entry::Folder => Some("folder".to_owned()),
        }
    }

    fn check(site: &Site, path: &str, expected: Option<&str>) {
        assert_eq!(text(site, path).as_deref(), expected, "{path}");
    }

    #[test]
    fn files_folders_and_their_index_pages_have_paths() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("a/b")).unwrap();
        fs::create_dir_all(root.path().join(".well-known")).unwrap();
        for path in ["index.html", "a/b/index.html", "a/x.txt", ".secret", ".well-known/y"] {
            fs::write(root.path().join(path), path).unwrap();
        }
        let site = Site::load(root.path()).unwrap();
        check(&site, "/", Some("index.html"));
        check(&site, "/index.html", Some("index.html"));
        check(&site, "/a/x.txt", Some("a/x.txt"));
        check(&site, "/a/b", Some("folder"));
        check(&site, "/a/b/", Some("a/b/index.html"));
        check(&site, "/a/", None);
        check(&site, "/.secret", None);
        check(&site, "/.well-known/y", Some(".well-known/y"));
        check(&site, "/ready", Some("ok\n"));
    }

    #[test]
    fn links_are_followed_inside_and_never_out() {
        let parent = tempfile::tempdir().unwrap();
        let root = parent.path().join("root");
        fs::create_dir_all(root.join("..data-1")).unwrap();
        fs::write(parent.path().join("secret"), "secret").unwrap();
        fs::write(root.join("..data-1/page"), "page").unwrap();
        symlink("..data-1", root.join("..data")).unwrap();
        symlink("..data/page", root.join("page")).unwrap();
        symlink("../secret", root.join("out")).unwrap();
        symlink(parent.path().join("secret"), root.join("absolute")).unwrap();
        symlink(".", root.join("loop")).unwrap();
        symlink("none", root.join("nowhere")).unwrap();
        symlink("/proc/self/exe", root.join("magic")).unwrap();
        let site = Site::load(&root).unwrap();
        check(&site, "/page", Some("page"));
        for path in ["/out", "/absolute", "/loop/page", "/nowhere", "/magic", "/..data/page"] {
            check(&site, path, None);
        }
        check(&site, "/ready", Some("ok\n"));
    }

    #[test]
    fn a_folder_that_is_not_there_is_an_error_that_names_it() {
        let error = Site::load("/nowhere/at/all".as_ref()).unwrap_err();
        assert!(format!("{error:#}").starts_with("opening the folder /nowhere/at/all: "));
    }

    #[test]
    fn a_site_with_a_missing_part_is_alive_but_not_ready() {
        let mut site = Site::default();
        site.settle(b"/page", Err(std::io::Error::other("broken").into())).unwrap();
        site.add_health();
        check(&site, "/health", Some("ok\n"));
        check(&site, "/ready", Some("a part of the content is missing\n"));
    }
}
