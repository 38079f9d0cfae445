//! The configuration's file: reading it, and noticing that it has changed.
//!
//! It is looked at once a second, which also works where notifications do not: a `ConfigMap` whose
//! symbolic link is changed, a file that is mounted by itself, a network file system.

use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use anyhow::{Context as _, bail};

use crate::config::{self, Config, Ports, Problem};
use crate::options::Options;

/// Milliseconds between two looks.
const LOOK: u64 = 1_000;

/// Most bytes of a file.
const MOST: u64 = 16 << 20;

/// What tells one version of a file from another: device, inode, bytes, time of change.
type Stamp = (u64, u64, u64, i64, i64);

/// A file that is being watched.
#[derive(Debug)]
pub(super) struct Watched {
    file: PathBuf,
    ports: Ports,
    /// As of the last load.
    loaded: Option<Stamp>,
    /// As of the last look.
    seen: Option<Stamp>,
    next: u64,
}

impl Watched {
    pub(super) fn new(options: &Options) -> Self {
        Self { file: options.file.clone(), ports: options.ports, loaded: None, seen: None, next: 0 }
    }

    /// Reads and parses it.
    pub(super) fn load(&mut self) -> anyhow::Result<Config> {
        self.loaded = stamp(&self.file);
        self.seen = self.loaded;
        read(&self.file, self.ports)
    }

    /// Whether it is another one than at the last load, and has been so for two looks: it may be
    /// half written at the first.
    pub(super) fn has_changed(&mut self, now: u64) -> bool {
        if now < self.next {
            return false;
        }
        self.next = now + LOOK;
        let before = std::mem::replace(&mut self.seen, stamp(&self.file));
        self.seen.is_some() && self.seen != self.loaded && self.seen == before
    }

    pub(super) const fn next(&self) -> u64 {
        self.next
    }
}

fn stamp(file: &PathBuf) -> Option<Stamp> {
    let data = std::fs::metadata(file).ok()?;
    Some((data.dev(), data.ino(), data.size(), data.mtime(), data.mtime_nsec()))
}

/// Reads and parses a file; an error has one line `FILE:LINE: what` per problem.
pub(crate) fn read(file: &PathBuf, ports: Ports) -> anyhow::Result<Config> {
    let reading = || format!("reading {}", file.display());
    let size = std::fs::metadata(file).with_context(reading)?.len();
    if size > MOST {
        bail!("{}: {size} bytes are more than a configuration has", file.display());
    }
    let text = std::fs::read_to_string(file).with_context(reading)?;
    config::parse(&text, ports).map_err(|problems| {
        let line =
            |problem: &Problem| format!("{}:{}: {}", file.display(), problem.line, problem.text);
        let lines: Vec<String> = problems.iter().map(line).collect();
        anyhow::Error::msg(lines.join("\n"))
    })
}
