//! Locks that are released when their process exits, and unfinished files that are removed when
//! their build fails.

use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::remove;
use crate::process;
use crate::progress::Progress;

/// The time between two attempts to take a lock; ctrl-C is checked in between.
const RETRY: Duration = Duration::from_millis(100);

/// A held lock (`flock(2)`). It is released when this is dropped or the process exits.
#[derive(Debug)]
pub(super) struct Hold(File);

/// An unfinished file or folder. It is removed when this is dropped, unless it was finished.
#[derive(Debug)]
pub(super) struct Partial {
    path: PathBuf,
}

impl Hold {
    /// Waits for an exclusive lock and shows `waiting` meanwhile.
    pub(super) fn exclusive(path: &Path, waiting: &str, progress: &Progress) -> Result<Self> {
        Self::wait(path, FlockOperation::NonBlockingLockExclusive, waiting, progress)
    }

    /// Waits for a shared lock.
    pub(super) fn shared(path: &Path, progress: &Progress) -> Result<Self> {
        let waiting = "waiting for `cargo xtask clean` to finish";
        Self::wait(path, FlockOperation::NonBlockingLockShared, waiting, progress)
    }

    /// Returns the exclusive lock, or nothing if another process holds it.
    pub(super) fn try_exclusive(path: &Path) -> Result<Option<Self>> {
        let hold = Self(open(path)?);
        Ok(hold.lock(path, FlockOperation::NonBlockingLockExclusive)?.then_some(hold))
    }

    /// Makes a shared lock exclusive if no other process shares it.
    pub(super) fn upgrade(&self, path: &Path) -> Result<bool> {
        self.lock(path, FlockOperation::NonBlockingLockExclusive)
    }

    /// Makes the lock a shared one again, because a failed upgrade may have lost it.
    pub(super) fn downgrade(&self, path: &Path) -> Result<bool> {
        self.lock(path, FlockOperation::NonBlockingLockShared)
    }

    fn wait(path: &Path, how: FlockOperation, waiting: &str, progress: &Progress) -> Result<Self> {
        let hold = Self(open(path)?);
        if hold.lock(path, how)? {
            return Ok(hold);
        }
        let _task = progress.task(waiting, None);
        while !hold.lock(path, how)? {
            process::check_interrupt()?;
            std::thread::sleep(RETRY);
        }
        Ok(hold)
    }

    fn lock(&self, path: &Path, how: FlockOperation) -> Result<bool> {
        match flock(&self.0, how) {
            Ok(()) => Ok(true),
            Err(Errno::WOULDBLOCK | Errno::INTR) => Ok(false),
            Err(error) => Err(error).with_context(|| format!("cannot lock {}", path.display())),
        }
    }
}

impl Drop for Hold {
    /// Closing the file is not enough: another thread's child shares it until its execve(2).
    fn drop(&mut self) {
        // If this fails, closing the file releases the lock.
        let _ = flock(&self.0, FlockOperation::NonBlockingUnlock);
    }
}

fn open(path: &Path) -> Result<File> {
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
    file.with_context(|| format!("cannot open the lock {}", path.display()))
}

impl Partial {
    /// Takes over a path. The caller holds its lock, so anything there is left over from a killed
    /// build.
    pub(super) fn new(path: PathBuf) -> Result<Self> {
        remove::tree(&path)?;
        Ok(Self { path })
    }

    /// Returns the path of the unfinished file or folder.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Moves a damaged file or folder away in one step, and removes it.
    pub(super) fn discard(&self, damaged: &Path) -> Result<()> {
        fs::rename(damaged, &self.path)
            .with_context(|| format!("cannot move {} away", damaged.display()))?;
        remove::tree(&self.path)
    }

    /// Moves the finished file or folder into place in one step.
    pub(super) fn finish(self, place: &Path) -> Result<()> {
        // The folder itself is not synced: after a power cut it is there or is made again.
        fs::rename(&self.path, place)
            .with_context(|| format!("cannot put {} in its place", place.display()))
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        // Anything that cannot be removed now is removed when the cache is opened next.
        let _ = remove::tree(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::Hold;

    #[test]
    fn a_released_lock_is_free_even_if_a_child_still_shares_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let hold = Hold::try_exclusive(&path).unwrap().unwrap();
        let of_child = hold.0.try_clone().unwrap();
        assert!(Hold::try_exclusive(&path).unwrap().is_none());
        drop(hold);
        assert!(Hold::try_exclusive(&path).unwrap().is_some());
        drop(of_child);
    }
}
