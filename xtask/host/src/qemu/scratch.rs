//! Folders that go when their owner goes, even when it was killed.
//!
//! A folder is deleted when its [`Scratch`] is dropped. A builder that is killed drops nothing; so
//! each folder has a locked file while its owner lives, and who makes the next folder deletes the
//! ones that nobody holds any more.

use std::fs::{self, File};
use std::path::Path;

use anyhow::{Context, Result};
use tempfile::TempDir;

/// The locked file in each folder.
const LOCK: &str = "lock";

/// A folder of one's own.
#[derive(Debug)]
pub struct Scratch {
    // The folder goes before the lock.
    folder: TempDir,
    _lock: File,
}

impl Scratch {
    /// Makes a folder `PREFIXxxxxxx` in `dir`, and deletes those that killed builders left there.
    pub fn new(dir: &Path, prefix: &str) -> Result<Self> {
        let context = || format!("cannot make a folder in {}", dir.display());
        fs::create_dir_all(dir).with_context(context)?;
        sweep(dir, prefix);
        let folder =
            tempfile::Builder::new().prefix(prefix).tempdir_in(dir).with_context(context)?;
        let lock = File::create(folder.path().join(LOCK)).with_context(context)?;
        lock.lock().with_context(context)?;
        Ok(Self { folder, _lock: lock })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.folder.path()
    }
}

/// What cannot be deleted is left: it is in nobody's way.
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
    fn what_a_killed_builder_left_goes_and_what_is_in_use_stays() {
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
