//! The document root: a folder, a pack, or a folder with one of them for each host.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hasher as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;

use crate::content::{Content, Hosts};
use crate::folder::crew::threads;
use crate::folder::scan::{Limits, scan};
use crate::folder::walk::survey;
use crate::index::Index;
use crate::index::policy::Policy;
use crate::pack;
use crate::request::normalized_host;

/// The place that content comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DocRoot {
    /// A folder.
    Folder(PathBuf),
    /// A pack.
    Pack(PathBuf),
    /// A folder that has a folder `HOST` or a pack `HOST.pack` for each host.
    Hosts(PathBuf),
}

/// The state of a document root. Equal states have equal content.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Look(u64);

/// Content, with the results of reading it.
#[derive(Debug)]
pub struct Loaded {
    /// The content.
    pub content: Content,
    /// The state of the document root.
    pub look: Look,
    /// The latest change of any file, in nanoseconds since 1970.
    pub newest: i128,
    /// Problems that do not stop the server, one line each.
    pub notes: Vec<String>,
    /// The number of sites that could not be read. Such a site stays as it was, or is missing.
    pub unread: usize,
}

impl Loaded {
    /// True if all of the content could be read.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.unread == 0 && self.content.sites().all(|site| site.unread == 0)
    }
}

impl DocRoot {
    /// Reads all of the content. A host's site that cannot be read stays as it was in `old`;
    /// without
    /// `old`, an unreadable site is an error.
    pub fn load(
        &self,
        limits: &Limits,
        policy: &Policy,
        old: Option<&Content>,
    ) -> anyhow::Result<Loaded> {
        let path = match self {
            Self::Hosts(path) => return hosts(path, limits, policy, old),
            Self::Folder(path) | Self::Pack(path) => path,
        };
        let site = Site { path: path.clone(), is_pack: matches!(self, Self::Pack(_)) };
        let old = old.and_then(|old| old.sites().next());
        let Part { index, look, newest, notes } = site.load(limits, policy, old)?;
        let content = Content::One(Arc::new(index));
        Ok(Loaded { content, look: Look(look), newest, notes, unread: 0 })
    }

    /// Checks the state of a document root without reading the content, with at most this many
    /// threads.
    pub fn look(&self, threads: usize) -> anyhow::Result<Look> {
        let (path, is_pack) = match self {
            Self::Folder(path) => (path, false),
            Self::Pack(path) => (path, true),
            Self::Hosts(path) => {
                let mut look = 0;
                for (name, site) in sites(path)? {
                    look = sum(look, &name, site.look(threads).unwrap_or_default());
                }
                return Ok(Look(look));
            }
        };
        Site { path: path.clone(), is_pack }.look(threads).map(Look)
    }

    /// Returns the path of the document root.
    #[must_use]
    pub fn path(&self) -> &Path {
        match self {
            Self::Folder(path) | Self::Pack(path) | Self::Hosts(path) => path,
        }
    }
}

struct Site {
    path: PathBuf,
    is_pack: bool,
}

struct Part {
    index: Index,
    look: u64,
    newest: i128,
    notes: Vec<String>,
}

impl Site {
    fn load(
        &self,
        limits: &Limits,
        policy: &Policy,
        old: Option<&Arc<Index>>,
    ) -> anyhow::Result<Part> {
        if self.is_pack {
            let look = self.look(1)?;
            let index = pack::open::load(&self.path, limits.memory)?;
            return Ok(Part { index, look, newest: 0, notes: Vec::new() });
        }
        let scan = scan(&self.path, limits, old.map(AsRef::as_ref))?;
        let left_out = scan.left_out.iter().map(ToString::to_string);
        let notes = left_out.chain(scan.complaints.iter().map(ToString::to_string)).collect();
        let (look, newest) = (hash(&scan.signature), scan.newest);
        let index = scan.into_index(policy);
        let mut index = index.with_context(|| format!("cannot serve {}", self.path.display()))?;
        index.keep_at_most(limits.memory.saturating_sub(index.content_bytes()));
        Ok(Part { index, look, newest, notes })
    }

    fn look(&self, threads: usize) -> anyhow::Result<u64> {
        if !self.is_pack {
            let seen = survey(&self.path, threads)
                .with_context(|| format!("cannot open the folder {}", self.path.display()))?;
            return Ok(hash(&seen.signature));
        }
        let stat = std::fs::metadata(&self.path)
            .with_context(|| format!("cannot check {}", self.path.display()))?;
        let times = [stat.mtime(), stat.mtime_nsec(), stat.ctime(), stat.ctime_nsec()];
        Ok(hash(&(stat.dev(), stat.ino(), stat.size(), times)))
    }
}

/// Returns the sites in a folder of hosts, by name. A folder wins over a pack of the same name.
/// Names that begin with a dot are skipped.
fn sites(folder: &Path) -> anyhow::Result<BTreeMap<Vec<u8>, Site>> {
    let opening = || format!("cannot open the folder {}", folder.display());
    let mut sites = BTreeMap::new();
    for entry in std::fs::read_dir(folder).with_context(opening)? {
        let path = entry.with_context(opening)?.path();
        let name = path.file_name().unwrap_or_default().as_bytes();
        let pack = name.strip_suffix(b".pack");
        let host = normalized_host(pack.unwrap_or(name));
        if name.starts_with(b".") || host.is_empty() {
            continue;
        }
        let is_folder = path.is_dir();
        if is_folder {
            sites.insert(normalized_host(name), Site { path, is_pack: false });
        } else if pack.is_some() {
            sites.entry(host).or_insert(Site { path, is_pack: true });
        }
    }
    Ok(sites)
}

fn hosts(
    folder: &Path,
    limits: &Limits,
    policy: &Policy,
    old: Option<&Content>,
) -> anyhow::Result<Loaded> {
    let mut hosts = Hosts::default();
    let (mut look, mut newest, mut notes, mut unread) = (0, 0, Vec::new(), 0);
    let mut limits = *limits;
    for (name, site) in sites(folder)? {
        let host = String::from_utf8_lossy(&name);
        let own = old.and_then(|old| old.own_site(&name));
        let index = match (site.load(&limits, policy, own), old) {
            (Ok(part), _) => {
                look = sum(look, &name, part.look);
                newest = newest.max(part.newest);
                notes.extend(part.notes.into_iter().map(|note| format!("{host}: {note}")));
                Some(Arc::new(part.index))
            }
            (Err(error), None) => return Err(error),
            (Err(error), Some(old)) => {
                look = sum(look, &name, site.look(threads()).unwrap_or_default());
                notes.push(format!("{host}: {error:#}; the old site stays"));
                unread += 1;
                old.own_site(&name).cloned()
            }
        };
        let Some(index) = index else { continue };
        limits.memory = limits.memory.saturating_sub(index.content_bytes());
        hosts.insert(name, index);
    }
    Ok(Loaded { content: Content::Hosts(hosts), look: Look(look), newest, notes, unread })
}

fn hash(value: &impl std::hash::Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

fn sum(look: u64, name: &[u8], of_site: u64) -> u64 {
    look.wrapping_add(hash(&(name, of_site)))
}

#[cfg(test)]
mod tests {
    use super::DocRoot;
    use crate::folder::scan::Limits;
    use crate::index::policy::Policy;
    use std::fs;

    const SMALL: Limits = Limits { memory: 1 << 20, open_files: 9 };

    #[test]
    fn each_host_has_its_folder() {
        let root = tempfile::tempdir().unwrap();
        for name in ["One.example", "default", ".git"] {
            fs::create_dir(root.path().join(name)).unwrap();
            fs::write(root.path().join(name).join("x"), name).unwrap();
        }
        fs::write(root.path().join("file"), "").unwrap();
        let docroot = DocRoot::Hosts(root.path().into());
        let loaded = docroot.load(&SMALL, &Policy::default(), None).unwrap();
        assert_eq!(docroot.look(1).unwrap(), loaded.look);
        assert_eq!(loaded.content.sites().count(), 2);
        let text = |host: &[u8]| {
            let site = loaded.content.site(host, b"/x").unwrap().index;
            site.memory(site.variants[0].body).unwrap().to_vec()
        };
        assert_eq!(text(b"one.EXAMPLE:80"), b"One.example");
        assert_eq!(text(b"../default"), b"default");
        fs::write(root.path().join("default/y"), "").unwrap();
        assert_ne!(docroot.look(1).unwrap(), loaded.look);
    }

    #[test]
    fn an_error_names_the_document_root_that_cannot_be_opened() {
        let error =
            DocRoot::Hosts("/nowhere".into()).load(&SMALL, &Policy::default(), None).unwrap_err();
        assert!(format!("{error:#}").starts_with("cannot open the folder /nowhere: "));
    }

    #[test]
    fn a_host_that_cannot_be_read_again_stays_as_it_was_and_blocks_no_other() {
        let root = tempfile::tempdir().unwrap();
        for name in ["default", "one", "two"] {
            fs::create_dir(root.path().join(name)).unwrap();
            fs::write(root.path().join(name).join("x"), "old").unwrap();
        }
        let docroot = DocRoot::Hosts(root.path().into());
        let old = docroot.load(&SMALL, &Policy::default(), None).unwrap().content;
        for name in ["default", "one", "three"] {
            let _ = fs::remove_dir_all(root.path().join(name));
            fs::write(root.path().join(name).with_extension("pack"), "no pack").unwrap();
        }
        fs::write(root.path().join("two/x"), "new").unwrap();
        assert!(docroot.load(&SMALL, &Policy::default(), None).is_err());
        let loaded = docroot.load(&SMALL, &Policy::default(), Some(&old)).unwrap();
        assert_eq!((loaded.unread, loaded.notes.len()), (3, 3));
        assert!(!loaded.is_whole());
        assert_eq!(docroot.look(1).unwrap(), loaded.look);
        let text = |host: &[u8]| {
            let site = loaded.content.site(host, b"/x").unwrap().index;
            site.memory(site.variants[0].body).unwrap().to_vec()
        };
        assert_eq!(text(b"one"), b"old");
        assert_eq!(text(b"two"), b"new");
        assert_eq!(text(b"three"), b"old", "the default site, for every other host");
        assert_eq!(loaded.content.sites().count(), 3);
    }
}
