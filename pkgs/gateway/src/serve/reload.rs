//! The configuration file: reading it, and detecting changes.
//!
//! The file is checked once a second. Unlike notifications, this also works for a `ConfigMap` whose
//! symbolic link changes, a file that is a mount point, and a network file system.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

use crate::config::{self, Config, Ports, Problem};
use crate::options::Options;

/// Milliseconds between two checks.
const CHECK_INTERVAL: u64 = 1_000;

/// The most bytes of a file.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// The properties by which versions of a file differ: device, inode, bytes, and the times of the last
/// change of content and inode. A copy may keep the first time, but not the second.
type Stamp = (u64, u64, u64, [i64; 4]);

/// A file that is being watched.
#[derive(Debug)]
pub(super) struct Watched {
    file: PathBuf,
    ports: Ports,
    /// The version at the last load.
    loaded: Option<Stamp>,
    /// The version at the last check.
    seen: Option<Stamp>,
    next: u64,
}

impl Watched {
    pub(super) fn new(options: &Options) -> Self {
        Self { file: options.file.clone(), ports: options.ports, loaded: None, seen: None, next: 0 }
    }

    /// Begins to read the file: returns its path and the ports of implicit listeners.
    pub(super) fn begin(&mut self) -> (PathBuf, Ports) {
        self.loaded = stamp(&self.file);
        self.seen = self.loaded;
        (self.file.clone(), self.ports)
    }

    /// True if the version differs from the one at the last load and is the same as at the previous
    /// check, because a file that has just changed may be half written.
    pub(super) fn has_changed(&mut self, now: u64) -> bool {
        if now < self.next {
            return false;
        }
        self.next = now + CHECK_INTERVAL;
        let before = std::mem::replace(&mut self.seen, stamp(&self.file));
        self.seen.is_some() && self.seen != self.loaded && self.seen == before
    }

    /// Returns the time of the next check.
    pub(super) const fn next(&self) -> u64 {
        self.next
    }
}

fn stamp(file: &Path) -> Option<Stamp> {
    let data = std::fs::metadata(file).ok()?;
    let times = [data.mtime(), data.mtime_nsec(), data.ctime(), data.ctime_nsec()];
    Some((data.dev(), data.ino(), data.size(), times))
}

/// Reads and parses a file. An error has one line `FILE:LINE: problem` per problem.
pub(crate) fn read(file: &Path, ports: Ports) -> anyhow::Result<Config> {
    let cannot_read = || format!("cannot read {}", file.display());
    let size = std::fs::metadata(file).with_context(cannot_read)?.len();
    if size > FILE_BYTES_MAX {
        bail!("{}: {size} bytes; a configuration has at most {FILE_BYTES_MAX}", file.display());
    }
    let text = std::fs::read_to_string(file).with_context(cannot_read)?;
    config::parse(&text, ports).map_err(|problems| {
        let line =
            |problem: &Problem| format!("{}:{}: {}", file.display(), problem.line, problem.text);
        let lines: Vec<String> = problems.iter().map(line).collect();
        anyhow::Error::msg(lines.join("\n"))
    })
}
