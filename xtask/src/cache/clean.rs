//! `clean`: frees the disk, and never removes a file that another build uses.

use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::{Context, Result, bail};

use super::{Cache, DOWNLOADS, LOCKS, STEPS, TMP, TOOLS, USERS, VARIABLE, names, remove};
use crate::process;
use crate::progress::Bytes;

/// The result of `clean`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Freed {
    /// Downloaded files.
    pub downloads: u64,
    /// Results of steps.
    pub steps: u64,
    /// Caches of other programs.
    pub tools: u64,
    /// Bytes of all of them on the disk.
    pub bytes: u64,
}

/// The unit of `st_blocks` on every file system (`inode(7)`), in bytes.
const BLOCK: u64 = 512;

impl Cache {
    /// Empties the cache and returns what that freed. Fails while another process has the cache
    /// open.
    pub fn clean(&self) -> Result<Freed> {
        let lock = self.path(LOCKS, USERS);
        if !self.0.users.upgrade(&lock)? {
            self.0.users.downgrade(&lock)?;
            bail!(
                "another build or a running node uses the cache in {}; run `cargo xtask clean` again when that has stopped, or set {VARIABLE} to another cache",
                self.root().display()
            );
        }
        let freed = self.empty();
        self.0.users.downgrade(&lock)?;
        freed
    }

    fn empty(&self) -> Result<Freed> {
        let mut freed = Freed::default();
        let task = self.0.progress.task("clean", None);
        for (area, count) in [
            (STEPS, &mut freed.steps),
            (DOWNLOADS, &mut freed.downloads),
            (TOOLS, &mut freed.tools),
            (TMP, &mut 0),
        ] {
            for name in names(&self.root().join(area))? {
                process::check_interrupt()?;
                task.note(&format!("{area}/{}", name.to_string_lossy()));
                let path = self.root().join(area).join(&name);
                freed.bytes +=
                    used(&path).with_context(|| format!("cannot measure {}", path.display()))?;
                self.drop_one(&path, &name)?;
                *count += 1;
            }
        }
        self.verified().clear();
        task.done();
        Ok(freed)
    }

    /// Moves an item away before removing it, so that a half-removed item is never mistaken for a
    /// complete one.
    fn drop_one(&self, path: &Path, name: &std::ffi::OsStr) -> Result<()> {
        let away = self.root().join(TMP).join(name);
        if away != path {
            remove::tree(&away)?;
            fs::rename(path, &away)
                .with_context(|| format!("cannot move {} away", path.display()))?;
        }
        remove::tree(&away)
    }
}

/// Returns the bytes on the disk of a file, or of all files below a folder. A file with several
/// links counts once for each link.
fn used(path: &Path) -> io::Result<u64> {
    let meta = fs::symlink_metadata(path)?;
    let mut bytes = meta.blocks() * BLOCK;
    if meta.is_dir() {
        for entry in fs::read_dir(path)? {
            bytes += used(&entry?.path())?;
        }
    }
    Ok(bytes)
}

impl fmt::Display for Freed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { downloads, steps, tools, bytes } = self;
        write!(
            f,
            "freed {}: {steps} step results, {downloads} downloads, {tools} tool caches",
            Bytes(*bytes)
        )
    }
}
