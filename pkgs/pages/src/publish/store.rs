//! Packs and manifests on disk.
//!
//! | path | content |
//! | --- | --- |
//! | `packs/sha256/HEX.pack` | the packs, each named by its digest |
//! | `sites/NAMESPACE/NAME/manifest.json` | the revisions of a site |
//! | `previews/NAMESPACE/NAME/LABEL/manifest.json` | the revision of a preview |
//! | `previews/NAMESPACE/NAME/state.json` | the references that are known for previews |
//! | `scratch/` | work in progress; emptied at the start |
//!
//! A pack gets its name by a rename when it is complete and on disk. The rename of the manifest then
//! publishes it. Whatever moment the process is killed at, a manifest names complete packs only, and a
//! pack without a manifest is garbage.
//!
//! Garbage is collected by marking: every pack that a manifest names stays, and every pack that a
//! reader holds. Publishing and collecting exclude each other, so no pack is collected between its
//! rename and the manifest's.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context as _, Result};
use kiln_base::replace::{self, Durability};
use tempfile::NamedTempFile;

use crate::digest::Digest;
use crate::key::SiteKey;
use crate::publish::manifest::{Manifest, Revision};

mod adopt;

const PACKS: &str = "packs/sha256";
const SITES: &str = "sites";
const PREVIEWS: &str = "previews";
const STATE: &str = "state.json";
const SCRATCH: &str = "scratch";
const MANIFEST: &str = "manifest.json";
const EXTENSION: &str = "pack";

/// The mode of all files; the folder belongs to the syncer alone.
const MODE: u32 = 0o640;

/// The store.
#[derive(Debug)]
pub struct Store {
    root: PathBuf,
    sites: Mutex<BTreeMap<SiteKey, Manifest>>,
    readers: Arc<Mutex<HashMap<Digest, usize>>>,
}

/// A pack that is held open; it is not collected before this is dropped.
#[derive(Debug)]
pub struct Held {
    /// The pack.
    pub file: File,
    digest: Digest,
    readers: Arc<Mutex<HashMap<Digest, usize>>>,
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut readers = lock(&self.readers);
        if let Some(count) = readers.get_mut(&self.digest) {
            *count -= 1;
            if *count == 0 {
                readers.remove(&self.digest);
            }
        }
    }
}

/// The result of a collection.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Collected {
    /// The number of packs that were removed.
    pub packs: u64,
    /// Their bytes.
    pub bytes: u64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Store {
    /// Opens a folder, empties scratch and reads all manifests. A manifest that is damaged, or names a
    /// missing pack, is left out: the next fetch makes it again.
    pub fn open(root: &Path) -> Result<Self> {
        let scratch = root.join(SCRATCH);
        match fs::remove_dir_all(&scratch) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("cannot empty {}", scratch.display()));
            }
            _ => {}
        }
        for name in [PACKS, SITES, PREVIEWS, SCRATCH] {
            let path = root.join(name);
            fs::create_dir_all(&path)
                .with_context(|| format!("cannot create the folder {}", path.display()))?;
        }
        let store =
            Self { root: root.to_owned(), sites: Mutex::default(), readers: Arc::default() };
        let sites = store.read_sites().context("cannot read the manifests")?;
        *lock(&store.sites) = sites;
        Ok(store)
    }

    fn read_sites(&self) -> io::Result<BTreeMap<SiteKey, Manifest>> {
        let mut sites = BTreeMap::new();
        for (folder, depth) in [(SITES, 2), (PREVIEWS, 3)] {
            let mut found = vec![(String::new(), self.root.join(folder))];
            for _ in 0..depth {
                found = below(&found)?;
            }
            for (key, path) in found {
                if let Some((key, manifest)) = key.parse().ok().zip(self.read(&path)) {
                    sites.insert(key, manifest);
                } else {
                    tracing::warn!(site = ?path, "the manifest is not usable");
                }
            }
        }
        Ok(sites)
    }

    /// Reads a manifest whose packs are all here.
    fn read(&self, folder: &Path) -> Option<Manifest> {
        let manifest = Manifest::parse(&fs::read(folder.join(MANIFEST)).ok()?)?;
        let is_here = |one: &Revision| self.pack_path(one.digest).is_file();
        manifest.revisions.iter().all(is_here).then_some(manifest)
    }

    /// Returns the folder for work in progress.
    #[must_use]
    pub fn scratch(&self) -> PathBuf {
        self.root.join(SCRATCH)
    }

    /// Returns the path of a pack, whether it exists or not.
    #[must_use]
    pub fn pack_path(&self, digest: Digest) -> PathBuf {
        self.root.join(PACKS).join(digest.hex()).with_extension(EXTENSION)
    }

    fn folder(&self, site: &SiteKey) -> PathBuf {
        match site.preview() {
            None => self.root.join(SITES).join(site.namespace()).join(site.name()),
            Some(label) => self.previews_folder(site).join(label),
        }
    }

    fn previews_folder(&self, site: &SiteKey) -> PathBuf {
        self.root.join(PREVIEWS).join(site.namespace()).join(site.name())
    }

    /// Returns the keys and revisions of a site's previews.
    #[must_use]
    pub fn previews(&self, site: &SiteKey) -> Vec<(SiteKey, Manifest)> {
        let sites = lock(&self.sites);
        let from = sites.range(site.site()..).take_while(|(key, _)| key.site() == site.site());
        let previews = from.filter(|(key, _)| key.preview().is_some());
        previews.map(|(key, manifest)| (key.clone(), manifest.clone())).collect()
    }

    /// Reads the file with the known references of a site.
    #[must_use]
    pub fn state(&self, site: &SiteKey) -> Option<Vec<u8>> {
        fs::read(self.previews_folder(site).join(STATE)).ok()
    }

    /// Replaces the file with the known references of a site.
    pub fn save_state(&self, site: &SiteKey, bytes: &[u8]) -> io::Result<()> {
        let folder = self.previews_folder(site);
        fs::create_dir_all(&folder)?;
        replace::write(&folder.join(STATE), bytes, MODE, Durability::File)
    }

    /// Forgets all previews of a site, and its known references. Returns the previews.
    pub fn remove_previews(&self, site: &SiteKey) -> io::Result<Vec<SiteKey>> {
        let previews = self.previews(site);
        let mut sites = lock(&self.sites);
        remove_folder(&self.previews_folder(site))?;
        sites.retain(|key, _| key.preview().is_none() || key.site() != site.site());
        Ok(previews.into_iter().map(|(key, _)| key).collect())
    }

    /// Returns the revisions of a site.
    #[must_use]
    pub fn manifest(&self, site: &SiteKey) -> Option<Manifest> {
        lock(&self.sites).get(site).cloned()
    }

    /// Returns all sites that have a revision.
    #[must_use]
    pub fn sites(&self) -> BTreeMap<SiteKey, Manifest> {
        lock(&self.sites).clone()
    }

    /// Creates a file for a pack in progress.
    pub fn begin(&self) -> io::Result<NamedTempFile> {
        tempfile::Builder::new().prefix("pack-").tempfile_in(self.scratch())
    }

    /// Publishes a complete pack as the newest revision of a site, and keeps at most `keep` revisions.
    pub fn publish(
        &self,
        site: &SiteKey,
        pack: NamedTempFile,
        revision: Revision,
        keep: usize,
    ) -> io::Result<Manifest> {
        pack.as_file().sync_all()?;
        let mut sites = lock(&self.sites);
        let path = self.pack_path(revision.digest);
        if path.is_file() {
            drop(pack);
        } else {
            pack.persist(&path).map_err(|error| error.error)?;
            File::open(self.root.join(PACKS))?.sync_all()?;
        }
        let manifest = match sites.get(site) {
            Some(old) => {
                let mut manifest = old.clone();
                manifest.publish(revision, keep);
                manifest
            }
            None => Manifest::new(revision),
        };
        self.write(site, &manifest)?;
        sites.insert(site.clone(), manifest.clone());
        Ok(manifest)
    }

    /// Changes the manifest of a site, for a rollback; nothing if the site has none.
    pub fn change<E: From<io::Error>>(
        &self,
        site: &SiteKey,
        change: impl FnOnce(&mut Manifest) -> Result<(), E>,
    ) -> Result<Option<Manifest>, E> {
        let mut sites = lock(&self.sites);
        let Some(mut manifest) = sites.get(site).cloned() else { return Ok(None) };
        change(&mut manifest)?;
        self.write(site, &manifest)?;
        sites.insert(site.clone(), manifest.clone());
        Ok(Some(manifest))
    }

    fn write(&self, site: &SiteKey, manifest: &Manifest) -> io::Result<()> {
        let folder = self.folder(site);
        fs::create_dir_all(&folder)?;
        let bytes = serde_json::to_vec(manifest).map_err(io::Error::other)?;
        replace::write(&folder.join(MANIFEST), &bytes, MODE, Durability::File)
    }

    /// Forgets a site or a preview. Its packs become garbage.
    pub fn remove(&self, site: &SiteKey) -> io::Result<()> {
        let mut sites = lock(&self.sites);
        remove_folder(&self.folder(site))?;
        sites.remove(site);
        Ok(())
    }

    /// Opens a pack that a manifest names.
    #[must_use]
    pub fn hold(&self, digest: Digest) -> Option<Held> {
        let sites = lock(&self.sites);
        let file = File::open(self.pack_path(digest)).ok()?;
        *lock(&self.readers).entry(digest).or_default() += 1;
        drop(sites);
        Some(Held { file, digest, readers: self.readers.clone() })
    }

    /// Removes every pack that neither a manifest nor a reader needs.
    pub fn collect(&self) -> io::Result<Collected> {
        let sites = lock(&self.sites);
        let mut marked: BTreeSet<Digest> = lock(&self.readers).keys().copied().collect();
        let all = sites.values().flat_map(|manifest| &manifest.revisions);
        marked.extend(all.map(|revision| revision.digest));
        let marked: BTreeSet<PathBuf> =
            marked.into_iter().map(|digest| self.pack_path(digest)).collect();
        let mut collected = Collected::default();
        for entry in fs::read_dir(self.root.join(PACKS))? {
            let entry = entry?;
            if !marked.contains(&entry.path()) {
                collected.bytes += entry.metadata()?.len();
                collected.packs += 1;
                fs::remove_file(entry.path())?;
            }
        }
        Ok(collected)
    }
}

/// Returns the folders one level deeper; names are joined by slashes.
fn below(folders: &[(String, PathBuf)]) -> io::Result<Vec<(String, PathBuf)>> {
    let mut found = Vec::new();
    for (name, path) in folders {
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                let last = entry.file_name().to_string_lossy().into_owned();
                let name = if name.is_empty() { last } else { format!("{name}/{last}") };
                found.push((name, entry.path()));
            }
        }
    }
    Ok(found)
}

/// Removes a folder, unless it does not exist.
fn remove_folder(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::{Collected, Store};
    use crate::digest::Digest;
    use crate::key::SiteKey;
    use crate::publish::manifest::{NoRevision, Revision};
    use std::fs;
    use std::io::Write as _;

    pub(super) fn key(text: &str) -> SiteKey {
        text.parse().unwrap()
    }

    pub(super) fn publish(store: &Store, site: &str, content: &str) -> Digest {
        let mut pack = store.begin().unwrap();
        pack.write_all(content.as_bytes()).unwrap();
        let digest = Digest::of(content.as_bytes());
        let (bytes, commit) = (content.len() as u64, content.to_owned());
        let revision = Revision { digest, bytes, files: 1, commit, source: String::new(), time: 0 };
        store.publish(&key(site), pack, revision, 2).unwrap();
        digest
    }

    #[test]
    fn sites_of_one_name_in_two_namespaces_are_two_sites() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let a = publish(&store, "a/site", "1");
        let b = publish(&store, "b/site", "2");
        store.remove(&key("a/site")).unwrap();
        store.remove(&key("a/site")).unwrap();
        assert_eq!(store.collect().unwrap(), Collected { packs: 1, bytes: 1 });
        assert!(store.hold(a).is_none() && store.hold(b).is_some());
    }

    #[test]
    fn previews_are_apart_from_their_site_and_survive_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let site = publish(&store, "a/site", "1");
        for (preview, content) in [("a/site/next", "2"), ("a/site/pr-1", "3"), ("a/site-b/x", "4")]
        {
            publish(&store, preview, content);
        }
        store.save_state(&key("a/site"), b"state").unwrap();
        let before = store.sites();
        let store = Store::open(folder.path()).unwrap();
        assert_eq!((store.sites(), before.len()), (before, 4));
        assert_eq!(store.state(&key("a/site")).as_deref(), Some(&b"state"[..]));
        let names = |store: &Store| -> Vec<String> {
            store.previews(&key("a/site")).iter().map(|(key, _)| key.to_string()).collect()
        };
        assert_eq!(names(&store), ["a/site/next", "a/site/pr-1"]);
        store.remove(&key("a/site/next")).unwrap();
        assert_eq!(names(&store), ["a/site/pr-1"]);
        assert_eq!(store.remove_previews(&key("a/site")).unwrap(), [key("a/site/pr-1")]);
        assert_eq!((store.state(&key("a/site")), names(&store).len()), (None, 0));
        assert_eq!(store.collect().unwrap(), Collected { packs: 2, bytes: 2 });
        assert!(store.hold(site).is_some() && store.manifest(&key("a/site-b/x")).is_some());
    }

    #[test]
    fn a_restart_finds_what_was_published_and_drops_the_rest() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        publish(&store, "a/site", "1");
        let digest = publish(&store, "a/site", "2");
        let before = store.sites();
        // Work that a kill interrupted: an unfinished pack, a finished one without a manifest, and a
        // manifest that was not renamed.
        let (_, lost) = store.begin().unwrap().keep().unwrap();
        fs::write(store.pack_path(Digest::of(b"3")), "3").unwrap();
        fs::write(folder.path().join("sites/a/site/.manifest.json.new"), "{").unwrap();
        drop(store);
        let store = Store::open(folder.path()).unwrap();
        assert_eq!(store.sites(), before);
        assert_eq!(store.manifest(&key("a/site")).unwrap().current, digest);
        assert!(!lost.exists());
        assert_eq!(store.collect().unwrap(), Collected { packs: 1, bytes: 1 });
    }

    #[test]
    fn a_manifest_without_its_packs_is_not_used() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let digest = publish(&store, "a/site", "1");
        fs::remove_file(store.pack_path(digest)).unwrap();
        assert!(Store::open(folder.path()).unwrap().sites().is_empty());
    }

    #[test]
    fn a_pack_is_not_collected_while_a_reader_holds_it() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let first = publish(&store, "a/site", "1");
        let held = (store.hold(first).unwrap(), store.hold(first).unwrap());
        for content in ["2", "3"] {
            publish(&store, "a/site", content);
        }
        assert_eq!(store.collect().unwrap(), Collected::default());
        drop(held.0);
        assert_eq!(store.collect().unwrap(), Collected::default());
        drop(held.1);
        assert_eq!(store.collect().unwrap(), Collected { packs: 1, bytes: 1 });
    }

    #[test]
    fn a_rollback_survives_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let first = publish(&store, "a/site", "1");
        publish(&store, "a/site", "2");
        let change = store.change(&key("a/site"), |manifest| {
            manifest.rollback(None).map_err(|error: NoRevision| std::io::Error::other(error))
        });
        assert_eq!(change.unwrap().unwrap().current, first);
        let store = Store::open(folder.path()).unwrap();
        publish(&store, "a/site", "3");
        assert_eq!(store.manifest(&key("a/site")).unwrap().current, first);
        assert!(store.change(&key("a/none"), |_| Ok::<(), std::io::Error>(())).unwrap().is_none());
    }
}
