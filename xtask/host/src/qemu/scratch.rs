//! Temporary folders that are deleted even if their owner was killed.
//!
//! A folder is deleted when its [`Scratch`] is dropped. A killed builder drops nothing. Each folder
//! therefore holds a file that is locked while its owner lives, and the next builder that makes a
//! folder deletes those without a lock.

use std::fs::{self, File};
use std::path::Path;

use anyhow::{Context, Result};
use tempfile::TempDir;

/// The name of the locked file.
const LOCK: &str = "lock";

/// A temporary folder.
#[derive(Debug)]
pub struct Scratch {
    // The folder is deleted before the lock is released.
    folder: TempDir,
    _lock: File,
}

impl Scratch {
    /// Makes a folder `PREFIXxxxxxx` in `dir` and deletes those that killed builders left there.
    pub fn new(dir: &Path, prefix: &str) -> Result<Self> {
        let context = || format!("cannot create a folder in {}", dir.display());
        fs::create_dir_all(dir).with_context(context)?;
        sweep(dir, prefix);
        let folder =
            tempfile::Builder::new().prefix(prefix).tempdir_in(dir).with_context(context)?;
        let lock = File::create(folder.path().join(LOCK)).with_context(context)?;
        lock.lock().with_context(context)?;
        Ok(Self { folder, _lock: lock })
    }

    /// The folder's path.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.folder.path()
    }
}

/// Deletes abandoned folders; one that cannot be deleted does no harm.
fn sweep(dir: &Path, prefix: &str) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let ours = entry.file_name().to_string_lossy().starts_with(prefix);
        let Some(lock) = ours.then(|| File::open(entry.path().join(LOCK)).ok()).flatten() else {
            continue;
        };
        if lock.try_lock().is_ok() {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn abandoned_folders_are_deleted_and_used_ones_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let used = Scratch::new(dir.path(), "vm-").unwrap();
        let left = dir.path().join("vm-left");
        let other = dir.path().join("other");
        for folder in [&left, &other] {
            fs::create_dir(folder).unwrap();
            File::create(folder.join(LOCK)).unwrap();
        }
        let new = Scratch::new(dir.path(), "vm-").unwrap();
        assert!(used.path().exists() && new.path().exists() && other.exists());
        assert!(!left.exists());
        let path = new.path().to_owned();
        drop(new);
        assert!(!path.exists());
    }
}
