//! `clean`: gives the disk back, and never pulls a file away from under another build.

use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::{Context, Result, bail};

use super::{Cache, DOWNLOADS, LOCKS, STEPS, TMP, TOOLS, USERS, VARIABLE, names, remove};
use crate::process;
use crate::progress::Bytes;

/// What `clean` gave back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Freed {
    /// Downloaded files.
    pub downloads: u64,
    /// Results of steps.
    pub steps: u64,
    /// Caches of other programs.
    pub tools: u64,
    /// Bytes on the disk of all of them.
    pub bytes: u64,
}

/// `st_blocks` counts in these, whatever the file system (`inode(7)`).
const BLOCK: u64 = 512;

impl Cache {
    /// Empties the cache and says what that freed; refused while another process has it open.
    pub fn clean(&self) -> Result<Freed> {
        let lock = self.path(LOCKS, USERS);
        if !self.0.users.upgrade(&lock)? {
            self.0.users.downgrade(&lock)?;
            bail!(
                "another build or a running node uses the cache in {}; run `cargo xtask clean` again when it has ended, or set {VARIABLE} for a cache of its own",
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

    /// Out of its place first: a half-removed entry is never seen as one.
    fn drop_one(&self, path: &Path, name: &std::ffi::OsStr) -> Result<()> {
        let away = self.root().join(TMP).join(name);
        if away != path {
            remove::tree(&away)?;
            fs::rename(path, &away)
                .with_context(|| format!("cannot take {} away", path.display()))?;
        }
        remove::tree(&away)
    }
}

/// Bytes on the disk of a file or of all files below a folder; a file with several links counts once for each.
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
            "freed {}: {steps} results of steps, {downloads} downloads, {tools} tool caches",
            Bytes(*bytes)
        )
    }
}
