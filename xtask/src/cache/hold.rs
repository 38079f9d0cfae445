//! Who may make a thing: locks that go with their process, and folders that go with their maker.

use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::remove;
use crate::process;
use crate::progress::Progress;

/// How often a taken lock is tried again; between two tries ctrl-C is looked for.
const RETRY: Duration = Duration::from_millis(100);

/// A held lock (`flock(2)`), released with this value or with the process.
#[derive(Debug)]
pub(super) struct Hold(File);

/// Something half-made: removed with this value unless it was finished.
#[derive(Debug)]
pub(super) struct Partial {
    path: PathBuf,
}

impl Hold {
    /// Waits until nobody else holds it; `waiting` is shown meanwhile.
    pub(super) fn exclusive(path: &Path, waiting: &str, progress: &Progress) -> Result<Self> {
        Self::wait(path, FlockOperation::NonBlockingLockExclusive, waiting, progress)
    }

    /// Waits until nobody holds it exclusively.
    pub(super) fn shared(path: &Path, progress: &Progress) -> Result<Self> {
        let waiting = "waiting for `cargo xtask clean` to end";
        Self::wait(path, FlockOperation::NonBlockingLockShared, waiting, progress)
    }

    /// The lock, or nothing if somebody else holds it.
    pub(super) fn try_exclusive(path: &Path) -> Result<Option<Self>> {
        let hold = Self(open(path)?);
        Ok(hold.lock(path, FlockOperation::NonBlockingLockExclusive)?.then_some(hold))
    }

    /// Makes a shared lock exclusive if nobody shares it.
    pub(super) fn upgrade(&self, path: &Path) -> Result<bool> {
        self.lock(path, FlockOperation::NonBlockingLockExclusive)
    }

    /// Makes it a shared lock (again: a failed upgrade may have lost it).
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

fn open(path: &Path) -> Result<File> {
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
    file.with_context(|| format!("cannot open the lock {}", path.display()))
}

impl Partial {
    /// Takes a path over; the caller holds its lock, so what lies there is rubbish.
    pub(super) fn new(path: PathBuf) -> Result<Self> {
        remove::tree(&path)?;
        Ok(Self { path })
    }

    /// Where it is made.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Takes a damaged thing out of its place, at once, and removes it.
    pub(super) fn discard(&self, damaged: &Path) -> Result<()> {
        fs::rename(damaged, &self.path)
            .with_context(|| format!("cannot take {} away", damaged.display()))?;
        remove::tree(&self.path)
    }

    /// Puts the finished thing in its place, at once.
    pub(super) fn finish(self, place: &Path) -> Result<()> {
        // The folder itself is not synced: after a power cut the thing is there, or is made again.
        fs::rename(&self.path, place)
            .with_context(|| format!("cannot put {} in its place", place.display()))
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        // What cannot be removed now is swept out when the cache is opened the next time.
        let _ = remove::tree(&self.path);
    }
}
