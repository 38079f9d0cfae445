//! `build.lock`: the files that the names of Debian packages resolve to.
//!
//! Every layer has a lock of its own, next to its `pkgs` folder. A build reads the locks and
//! resolves nothing; `cargo xtask update` writes them. A lock is a list of pins: what a
//! `[source.deb]` table requests, and the exact files that apt chose for it. Pins are independent
//! of each other, so that a new one never changes another. This module does no I/O.

mod file;
#[cfg(test)]
mod tests;
mod update;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, Result, anyhow, ensure};
use serde::{Deserialize, Serialize};

use crate::digest::Digest;

pub use update::Draft;

/// The file's name.
pub const FILE: &str = "build.lock";

/// The pins of one layer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lock {
    /// Request → its files, sorted by name.
    pins: BTreeMap<Request, Vec<Package>>,
}

/// A name to resolve.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Request {
    /// Debian's name of the package.
    pub package: String,
    /// Debian's name of the architecture.
    pub arch: String,
    /// True to include all dependencies; recommended packages are never included.
    pub closure: bool,
}

/// One binary package of Debian's archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Package {
    /// Debian's name.
    pub name: String,
    /// Debian's architecture name, or `all`.
    pub arch: String,
    /// Debian's version.
    pub version: String,
    /// The archive that has the file.
    pub archive: Archive,
    /// The file's path in that archive; starts with `pool/`.
    pub path: String,
    /// The file's size in bytes.
    pub size: u64,
    /// The file's digest, from the signed index.
    pub sha256: Digest,
    /// A moment at which the archive had the file.
    pub snapshot: Snapshot,
}

/// The locks of all layers of a build.
#[derive(Debug, Clone, Default)]
pub struct Locks {
    /// Layer → its lock.
    pub layers: BTreeMap<PathBuf, Lock>,
    /// The command that adds missing pins, for messages.
    pub update: String,
}

/// A file to download, with everything that identifies it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Locked {
    /// The file's name, as messages show it.
    pub name: String,
    /// The place to download it from.
    pub origin: Origin,
    /// Its size in bytes.
    pub size: u64,
    /// Its digest, which is its place in the cache.
    pub sha256: Digest,
}

/// The place of a locked file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// The pool of a Debian archive: the host's mirror, and later only a mirror of snapshots.
    Pool {
        /// The archive.
        archive: Archive,
        /// The path there.
        path: String,
        /// A moment at which the archive had the file.
        snapshot: Snapshot,
        /// The command that pins a newer version, for messages.
        renew: String,
    },
    /// This address only.
    Url(String),
}

/// One of Debian's archives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Archive {
    /// Releases and their updates.
    Debian,
    /// Security updates.
    DebianSecurity,
}

/// A moment in UTC in the form that archives of snapshots use in their addresses, `20261121T000000Z`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Snapshot(String);

impl Lock {
    /// Collects pins and checks that they can be written and read back.
    pub fn new(pins: impl IntoIterator<Item = (Request, Vec<Package>)>) -> Result<Self> {
        let sorted = |(request, mut files): (Request, Vec<Package>)| {
            files.sort_by(|a, b| a.name.cmp(&b.name));
            (request, files)
        };
        let lock = Self { pins: pins.into_iter().map(sorted).collect() };
        lock.check()?;
        Ok(lock)
    }

    /// True if nothing is pinned.
    pub fn is_empty(&self) -> bool {
        self.pins.is_empty()
    }

    /// The files that a request resolves to, if it is pinned.
    pub fn files(&self, request: &Request) -> Option<&[Package]> {
        self.pins.get(request).map(Vec::as_slice)
    }
}

impl Locks {
    /// The files for the request of the package `name`, which is in `layer`.
    pub fn debs(&self, layer: &Path, name: &str, request: &Request) -> Result<Vec<Locked>> {
        let renew = format!("{} {name}", self.update);
        let files = self.files(layer, name, request)?.iter();
        Ok(files.map(|package| package.locked(&renew)).collect())
    }

    /// The version of the requested package; of the real package if the name only refers to it.
    pub fn version(&self, layer: &Path, name: &str, request: &Request) -> Result<String> {
        let files = self.files(layer, name, request)?;
        let own = files.iter().find(|file| file.name == request.package);
        let file = own.or(files.first()).context("a pin has no files")?;
        Ok(file.version.clone())
    }

    fn files(&self, layer: &Path, name: &str, request: &Request) -> Result<&[Package]> {
        let found = self.layers.get(layer).and_then(|lock| lock.files(request));
        found.ok_or_else(|| {
            anyhow!(
                "{}: `{}` for {} is not in {}; run `{}` to add it",
                layer.join("pkgs").join(name).join("pkg.toml").display(),
                request.package,
                request.arch,
                layer.join(FILE).display(),
                self.update
            )
        })
    }
}

impl Package {
    fn locked(&self, renew: &str) -> Locked {
        let Self { path, archive, size, sha256, snapshot, .. } = self.clone();
        let name = path.rsplit('/').next().unwrap_or(&path).to_owned();
        let origin = Origin::Pool { archive, path, snapshot, renew: renew.to_owned() };
        Locked { name, origin, size, sha256 }
    }
}

impl Locked {
    /// A file that a package's own table locks.
    pub fn from_url(url: &str, size: u64, sha256: Digest) -> Self {
        let name = url.trim_end_matches('/').rsplit('/').next().unwrap_or(url);
        Self { name: name.to_owned(), origin: Origin::Url(url.to_owned()), size, sha256 }
    }
}

impl Archive {
    /// The archive's name, as in `build.lock` and in the addresses of snapshots.
    pub fn name(self) -> &'static str {
        match self {
            Self::Debian => "debian",
            Self::DebianSecurity => "debian-security",
        }
    }
}

impl Snapshot {
    /// The moment as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Snapshot {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let form = |(at, byte): (usize, u8)| match at {
            8 => byte == b'T',
            15 => byte == b'Z',
            _ => byte.is_ascii_digit(),
        };
        ensure!(
            text.len() == 16 && text.bytes().enumerate().all(form),
            "`{text}` is not a snapshot; write it like 20261121T000000Z"
        );
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for Snapshot {
    type Error = anyhow::Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Snapshot> for String {
    fn from(snapshot: Snapshot) -> Self {
        snapshot.0
    }
}
