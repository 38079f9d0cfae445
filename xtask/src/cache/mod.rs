//! The cache: downloads by their sha256, results of steps by the digest of all their inputs.
//!
//! ```text
//! CACHEDIR.TAG        marks the folder as a cache, for backup programs and `clean`
//! downloads/SHA256    one file each
//! steps/DIGEST/       `files/` as the step left them, and `manifest.json`
//! tools/NAME/         caches of other programs, such as Go's
//! tmp/NAME            unfinished entries; renamed into place when they are complete and on the disk
//! locks/NAME          held while an entry is made; builds share `locks/users`, `clean` holds it alone
//! ```
//!
//! A name under `tmp` belongs to the holder of the lock with the same name. A lock is released when
//! its process exits, so anything under `tmp` without a held lock is left over from a killed build.
//!
//! Each use of an entry checks its files (names, sizes, modes, times). Before a step reads an
//! entry, its files are read and hashed, once per process. A damaged entry is made again.

mod clean;
mod entry;
mod hold;
mod remove;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result, bail, ensure};

pub use entry::Entry;

use crate::digest::Digest;
use crate::process;
use crate::progress::Progress;
use hold::{Hold, Partial};

/// The variable that moves the cache.
pub const VARIABLE: &str = "KILN_CACHE";

/// The file that marks a cache folder, by the Cache Directory Tagging Specification.
pub const TAG: &str = "CACHEDIR.TAG";
const TAG_TEXT: &str = "Signature: 8a477f597d28d172789f06886806bc55\n# The cache of Kiln's builder; `cargo xtask clean` empties it.\n";

const DOWNLOADS: &str = "downloads";
const STEPS: &str = "steps";
const TOOLS: &str = "tools";
const TMP: &str = "tmp";
const LOCKS: &str = "locks";

/// The lock that every open cache shares.
const USERS: &str = "users";

/// An open cache. Cheap to clone, and may be used from any thread.
#[derive(Debug, Clone)]
pub struct Cache(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    root: PathBuf,
    progress: Progress,
    /// Entries whose files were hashed by this process.
    verified: Mutex<BTreeSet<Digest>>,
    /// Keeps `clean` of another process from running.
    users: Hold,
}

impl Cache {
    /// Opens the cache that the environment names: `KILN_CACHE`, or `kiln` in the user's cache
    /// folder.
    pub fn open(progress: &Progress) -> Result<Self> {
        Self::open_at(&locate(|name| std::env::var_os(name))?, progress)
    }

    /// Opens the cache in this folder, creates it if it is missing, and removes leftovers of
    /// killed builds.
    pub fn open_at(root: &Path, progress: &Progress) -> Result<Self> {
        let cannot = || {
            format!(
                "cannot use the cache folder {}; set {VARIABLE} to a folder that you may write to",
                root.display()
            )
        };
        prepare(root).with_context(cannot)?;
        let lock = root.join(LOCKS).join(USERS);
        let users = Hold::shared(&lock, progress).with_context(cannot)?;
        let verified = Mutex::default();
        let cache = Self(Arc::new(Shared {
            root: root.to_owned(),
            progress: progress.clone(),
            verified,
            users,
        }));
        cache.sweep().with_context(cannot)?;
        Ok(cache)
    }

    /// Returns the cache's folder.
    pub fn root(&self) -> &Path {
        &self.0.root
    }

    /// Returns an entry if it is finished and intact.
    pub fn find(&self, digest: Digest) -> Result<Option<Entry>> {
        self.look(digest, Entry::glance)
    }

    /// Like [`Cache::find`], for an entry that a step will read: checks all hashes, once per run.
    pub fn intact(&self, digest: Digest) -> Result<Option<Entry>> {
        if self.verified().contains(&digest) {
            return self.find(digest);
        }
        let entry = self.look(digest, Entry::verify)?;
        if entry.is_some() {
            self.verified().insert(digest);
        }
        Ok(entry)
    }

    /// Returns the entry with this digest. If it is missing, `make` fills an empty folder.
    ///
    /// If several builds need the entry, one makes it and the others wait. `label` is for messages.
    pub fn step(
        &self,
        digest: Digest,
        label: &str,
        make: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<Entry> {
        match self.find(digest)? {
            Some(entry) => Ok(entry),
            None => self.make(digest, label, make),
        }
    }

    /// Returns a downloaded file after hashing it; removes a damaged one.
    pub fn download(&self, sha256: Digest) -> Result<Option<PathBuf>> {
        let path = self.path(DOWNLOADS, &sha256.to_string());
        match fs::symlink_metadata(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            found => found.with_context(|| format!("cannot read {}", path.display()))?,
        };
        if Digest::of_file(&path)? == sha256 {
            return Ok(Some(path));
        }
        self.0.progress.message(&format!("{} is damaged and is downloaded again", path.display()));
        fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
        Ok(None)
    }

    /// Stores a download: `write` fills a file, which must then have this digest.
    ///
    /// Only a complete and correct file is moved into place. If several builds need it, one
    /// downloads it.
    pub fn store(
        &self,
        sha256: Digest,
        label: &str,
        write: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<PathBuf> {
        let name = sha256.to_string();
        let _hold = self.hold(&format!("download-{name}"), label)?;
        if let Some(path) = self.download(sha256)? {
            return Ok(path);
        }
        let partial = Partial::new(self.path(TMP, &format!("download-{name}")))?;
        self.explain(write(partial.path()))?;
        let found = Digest::of_file(partial.path())?;
        ensure!(found == sha256, "{label} is refused: its sha256 is {found}, expected {sha256}");
        let path = self.path(DOWNLOADS, &name);
        partial.finish(&path)?;
        Ok(path)
    }

    /// Removes the partial download of a hanging thread before the process exits.
    pub fn abandon(&self, sha256: Digest) {
        // Anything that cannot be removed now is removed when the cache is opened next.
        let _ = remove::tree(&self.path(TMP, &format!("download-{sha256}")));
    }

    /// Returns a folder for another program's own cache, such as Go's; `clean` frees it too.
    pub fn dir(&self, name: &str) -> Result<PathBuf> {
        let path = self.path(TOOLS, name);
        let made =
            fs::create_dir_all(&path).with_context(|| format!("cannot create {}", path.display()));
        self.explain(made)?;
        Ok(path)
    }

    fn path(&self, area: &str, name: &str) -> PathBuf {
        self.0.root.join(area).join(name)
    }

    fn verified(&self) -> MutexGuard<'_, BTreeSet<Digest>> {
        self.0.verified.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hold(&self, name: &str, label: &str) -> Result<Hold> {
        let waiting = format!("waiting for another build that makes {label}");
        Hold::exclusive(&self.path(LOCKS, name), &waiting, &self.0.progress)
    }

    /// Returns the entry if it exists and `check` finds it intact; removes a damaged one and shows
    /// the reason.
    fn look(&self, digest: Digest, check: fn(&Entry) -> Result<()>) -> Result<Option<Entry>> {
        let dir = self.path(STEPS, &digest.to_string());
        if !dir.try_exists().with_context(|| format!("cannot read {}", dir.display()))? {
            return Ok(None);
        }
        let error = match open_checked(&dir, check) {
            Ok(entry) => return Ok(Some(entry)),
            Err(error) => error,
        };
        process::check_interrupt()?;
        self.0.progress.message(&format!("a cache entry is damaged and is made again: {error:#}"));
        let _hold = self.hold(&digest.to_string(), "the damaged entry again")?;
        if open_checked(&dir, check).is_err() {
            self.discard(&dir, digest)?;
        }
        Ok(None)
    }

    fn make(
        &self,
        digest: Digest,
        label: &str,
        make: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<Entry> {
        let name = digest.to_string();
        let _hold = self.hold(&name, label)?;
        let dir = self.path(STEPS, &name);
        // Another build may have made the entry while this one waited.
        if dir.exists() {
            match open_checked(&dir, Entry::glance) {
                Ok(entry) => return Ok(entry),
                Err(_) => self.discard(&dir, digest)?,
            }
        }
        let partial = Partial::new(self.path(TMP, &name))?;
        self.explain(fill(partial.path(), label, make))?;
        partial.finish(&dir)?;
        self.verified().insert(digest);
        Entry::open(&dir)
    }

    /// Moves an entry out of its place. The caller holds its lock.
    fn discard(&self, dir: &Path, digest: Digest) -> Result<()> {
        process::check_interrupt()?;
        self.verified().remove(&digest);
        let partial = Partial::new(self.path(TMP, &digest.to_string()))?;
        if dir.exists() {
            partial.discard(dir)?;
        }
        Ok(())
    }

    /// Removes leftovers of killed builds.
    fn sweep(&self) -> Result<()> {
        for name in names(&self.0.root.join(TMP))? {
            let lock = self.0.root.join(LOCKS).join(&name);
            if let Some(_hold) = Hold::try_exclusive(&lock)? {
                remove::tree(&self.0.root.join(TMP).join(&name))?;
            }
        }
        Ok(())
    }

    /// Explains a full disk.
    fn explain<T>(&self, result: Result<T>) -> Result<T> {
        result.map_err(|error| if is_full(&error) { error.context(self.full()) } else { error })
    }

    fn full(&self) -> String {
        format!(
            "the disk is full; free some space on the disk of {}, or move the cache with {VARIABLE}",
            self.0.root.display()
        )
    }
}

fn open_checked(dir: &Path, check: fn(&Entry) -> Result<()>) -> Result<Entry> {
    let entry = Entry::open(dir)?;
    check(&entry).map(|()| entry)
}

/// Returns the cache's folder for an environment.
fn locate(variable: impl Fn(&str) -> Option<OsString>) -> Result<PathBuf> {
    if let Some(path) = variable(VARIABLE) {
        let path = PathBuf::from(path);
        if !path.is_absolute() {
            bail!("{VARIABLE} is `{}`, but must be an absolute path", path.display());
        }
        return Ok(path);
    }
    // The XDG Base Directory Specification ignores a relative path.
    let absolute = |name| variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let user = absolute("XDG_CACHE_HOME").or_else(|| Some(absolute("HOME")?.join(".cache")));
    let user = user.with_context(|| {
        format!("cannot find a folder for the cache: set {VARIABLE}, XDG_CACHE_HOME or HOME")
    })?;
    Ok(user.join("kiln"))
}

/// Creates the folders. Refuses a folder with other files in it, because `clean` removes files.
pub fn prepare(root: &Path) -> Result<()> {
    fs::create_dir_all(root).context("cannot create it")?;
    if !root.join(TAG).exists() {
        let found = names(root)?;
        let foreign = found.first().filter(|_| !found.iter().any(|name| name == TAG));
        if let Some(name) = foreign {
            bail!("it has no {TAG} but other files in it, such as `{}`", name.to_string_lossy());
        }
        fs::write(root.join(TAG), TAG_TEXT).with_context(|| format!("cannot write {TAG}"))?;
    }
    for area in [DOWNLOADS, STEPS, TOOLS, TMP, LOCKS] {
        fs::create_dir_all(root.join(area)).with_context(|| format!("cannot create {area}"))?;
    }
    Ok(())
}

/// Runs a step and puts its results, with a manifest, on the disk.
fn fill(dir: &Path, label: &str, make: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let files = dir.join(entry::FILES);
    fs::create_dir_all(&files).with_context(|| format!("cannot create {}", files.display()))?;
    make(&files)?;
    process::check_interrupt()?;
    entry::seal(dir, label)?;
    // One call syncs the whole file system, because a call for each of thousands of files takes
    // minutes.
    let folder = File::open(dir).with_context(|| format!("cannot open {}", dir.display()))?;
    rustix::fs::syncfs(&folder)
        .with_context(|| format!("cannot write {} to the disk", dir.display()))?;
    process::check_interrupt()
}

fn names(dir: &Path) -> Result<Vec<OsString>> {
    let context = || format!("cannot read the folder {}", dir.display());
    let entries = fs::read_dir(dir).with_context(context)?;
    entries.map(|entry| Ok(entry.with_context(context)?.file_name())).collect()
}

/// True if a full disk was the cause; programs report that only in their output.
fn is_full(error: &anyhow::Error) -> bool {
    let full = |kind| matches!(kind, ErrorKind::StorageFull | ErrorKind::QuotaExceeded);
    error.chain().any(|cause| {
        cause.downcast_ref::<std::io::Error>().is_some_and(|error| full(error.kind()))
            || cause.downcast_ref::<rustix::io::Errno>().is_some_and(|error| full(error.kind()))
    }) || format!("{error:#}").contains("No space left on device")
}
