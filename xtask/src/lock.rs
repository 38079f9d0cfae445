//! `build.lock`: what the names of Debian packages resolved to when `cargo xtask update` last ran.
//!
//! A build reads it and never resolves anything itself. The file is sorted and written whole, so
//! that an update's diff shows exactly what changed. This module does no I/O.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::digest::Digest;

/// The file's name, beside `build.toml`.
pub const FILE: &str = "build.lock";

const HEADER: &str = "# Written by `cargo xtask update`; do not edit.\n\
# What the names of Debian packages in pkgs/ and build.toml stand for, each with its sha256.\n\n";

/// What every name stands for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lock {
    /// Where the packages come from.
    pub debian: Debian,
    /// All packages, sorted by name, then arch.
    #[serde(default, rename = "package")]
    packages: Vec<Package>,
    /// All closures, sorted by name, then arch.
    #[serde(default, rename = "closure")]
    closures: Vec<Closure>,
}

/// The archive's state that was resolved against.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Debian {
    /// The release's code name.
    pub suite: String,
    /// A moment at which the archive had all the packages.
    pub snapshot: Snapshot,
}

/// One binary package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Package {
    /// Debian's name.
    pub name: String,
    /// Debian's architecture name, or `all`.
    pub arch: String,
    /// Debian's version.
    pub version: String,
    /// Which of Debian's archives has it.
    pub archive: Archive,
    /// The file's path in that archive; starts with `pool/`.
    pub path: String,
    /// The file's size in bytes.
    pub size: u64,
    /// The file's digest, from the signed index.
    pub sha256: Digest,
    /// For a package with no files of its own, such as `linux-image-cloud-amd64`: the package it stands for.
    #[serde(default, rename = "stands-for", skip_serializing_if = "Option::is_none")]
    pub stands_for: Option<String>,
}

/// A package with all that it depends on; recommendations are left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Closure {
    /// The package that was asked for.
    pub name: String,
    /// Debian's architecture name.
    pub arch: String,
    /// Names of all packages of the closure, itself included, sorted.
    pub packages: Vec<String>,
}

/// A file to download, with all that is needed to know it again. What `fetch` takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Locked {
    /// The file's name, as it is shown.
    pub name: String,
    /// Where it is.
    pub origin: Origin,
    /// Its size in bytes.
    pub size: u64,
    /// Its digest, and its place in the cache.
    pub sha256: Digest,
}

/// Where a locked file is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// In the pool of a Debian archive: on the host's mirror, later only on a mirror of snapshots.
    Pool {
        /// Which archive.
        archive: Archive,
        /// The path there.
        path: String,
        /// When the archive surely had it.
        snapshot: Snapshot,
    },
    /// At this address alone.
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
            "`{text}` is no snapshot: it must look like 20261121T000000Z"
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

impl Lock {
    /// Puts packages and closures in order and checks that they fit together.
    pub fn new(
        debian: Debian,
        mut packages: Vec<Package>,
        mut closures: Vec<Closure>,
    ) -> Result<Self> {
        packages.sort_by(|a, b| (&a.name, &a.arch).cmp(&(&b.name, &b.arch)));
        closures.sort_by(|a, b| (&a.name, &a.arch).cmp(&(&b.name, &b.arch)));
        for closure in &mut closures {
            closure.packages.sort();
        }
        let lock = Self { debian, packages, closures };
        lock.check()?;
        Ok(lock)
    }

    /// Reads the file's text; `file` is its name for messages.
    pub fn parse(file: &str, text: &str) -> Result<Self> {
        let lock: Self = toml::from_str(text).map_err(|error| located(file, text, &error))?;
        lock.check().with_context(|| {
            format!("{file} is inconsistent; run `cargo xtask update` to write it anew")
        })?;
        Ok(lock)
    }

    /// The file's text.
    pub fn render(&self) -> Result<String> {
        let text = toml::to_string(self).context("cannot write the lock as TOML")?;
        Ok(format!("{HEADER}{text}"))
    }

    /// One package by name; a package without files of its own gives the one it stands for.
    pub fn package(&self, name: &str, arch: &str) -> Result<&Package> {
        let package = self.find(name, arch).with_context(|| missing("package", name, arch))?;
        match &package.stands_for {
            Some(real) => self.find(real, arch).with_context(|| missing("package", real, arch)),
            None => Ok(package),
        }
    }

    /// A package with all that it depends on.
    pub fn closure(&self, name: &str, arch: &str) -> Result<Vec<&Package>> {
        let closure =
            self.closures.iter().find(|closure| closure.name == name && closure.arch == arch);
        let closure = closure.with_context(|| missing("closure of package", name, arch))?;
        closure.packages.iter().map(|name| self.package(name, arch)).collect()
    }

    /// All packages, sorted by name, then arch.
    pub fn packages(&self) -> &[Package] {
        &self.packages
    }

    /// The files of a package, and of all that it depends on when `closure` is set.
    pub fn debs(&self, name: &str, arch: &str, closure: bool) -> Result<Vec<Locked>> {
        let packages =
            if closure { self.closure(name, arch)? } else { vec![self.package(name, arch)?] };
        Ok(packages.into_iter().map(|package| self.locked(package)).collect())
    }

    /// All files that are pinned.
    pub fn files(&self) -> Vec<Locked> {
        let own = self.packages.iter().filter(|package| package.stands_for.is_none());
        own.map(|package| self.locked(package)).collect()
    }

    fn locked(&self, package: &Package) -> Locked {
        let Package { path, archive, size, sha256, .. } = package.clone();
        let name = path.rsplit('/').next().unwrap_or(&path).to_owned();
        let snapshot = self.debian.snapshot.clone();
        Locked { name, origin: Origin::Pool { archive, path, snapshot }, size, sha256 }
    }

    fn find(&self, name: &str, arch: &str) -> Option<&Package> {
        let at = |arch: &str| {
            let key = (name, arch);
            self.packages
                .binary_search_by(|package| {
                    (package.name.as_str(), package.arch.as_str()).cmp(&key)
                })
                .ok()
        };
        at(arch).or_else(|| at("all")).map(|index| &self.packages[index])
    }

    fn check(&self) -> Result<()> {
        check_word("suite", &self.debian.suite)?;
        let mut last = None;
        for package in &self.packages {
            package.check()?;
            let key = Some((&package.name, &package.arch));
            ensure!(
                last < key,
                "package `{}` for {} is there twice or out of order",
                package.name,
                package.arch
            );
            last = key;
        }
        self.packages.iter().filter(|package| package.stands_for.is_some()).try_for_each(
            |package| {
                let real = self.package(&package.name, &package.arch)?;
                ensure!(
                    real.stands_for.is_none(),
                    "package `{}` stands for one that stands for another",
                    package.name
                );
                Ok(())
            },
        )?;
        self.check_closures()
    }

    fn check_closures(&self) -> Result<()> {
        let mut seen = BTreeSet::new();
        for Closure { name, arch, packages } in &self.closures {
            ensure!(seen.insert((name, arch)), "closure `{name}` for {arch} is there twice");
            ensure!(
                packages.contains(name),
                "closure `{name}` for {arch} lacks the package itself"
            );
            let distinct: BTreeSet<_> = packages.iter().collect();
            ensure!(
                distinct.len() == packages.len(),
                "closure `{name}` for {arch} names a package twice"
            );
            for package in packages {
                self.package(package, arch)
                    .with_context(|| format!("in the closure of `{name}`"))?;
            }
        }
        Ok(())
    }

    /// What changed between two locks, one line a package: added, removed, `old -> new`.
    pub fn changes(&self, newer: &Self) -> Vec<String> {
        let versions = |lock: &Self| -> BTreeMap<(String, String), String> {
            lock.packages
                .iter()
                .map(|p| ((p.name.clone(), p.arch.clone()), p.version.clone()))
                .collect()
        };
        let (old, new) = (versions(self), versions(newer));
        let keys: BTreeSet<_> = old.keys().chain(new.keys()).collect();
        let line = |key: &&(String, String)| match (old.get(*key), new.get(*key)) {
            (Some(was), Some(is)) if was != is => {
                Some(format!("{} ({}): {was} -> {is}", key.0, key.1))
            }
            (Some(was), None) => Some(format!("{} ({}): {was} removed", key.0, key.1)),
            (None, Some(is)) => Some(format!("{} ({}): {is} added", key.0, key.1)),
            _ => None,
        };
        keys.iter().filter_map(line).collect()
    }
}

impl Locked {
    /// A file that a package's own table locks.
    pub fn from_url(url: &str, size: u64, sha256: Digest) -> Self {
        let name = url.trim_end_matches('/').rsplit('/').next().unwrap_or(url);
        Self { name: name.to_owned(), origin: Origin::Url(url.to_owned()), size, sha256 }
    }
}

impl Package {
    fn check(&self) -> Result<()> {
        check_word("name", &self.name)?;
        check_word("arch", &self.arch)?;
        check_word("version", &self.version)?;
        let segments = || self.path.split('/');
        let plain = |segment: &str| {
            !matches!(segment, "" | "." | "..") && segment.bytes().all(is_path_byte)
        };
        ensure!(
            segments().next() == Some("pool") && segments().count() > 2 && segments().all(plain),
            "package `{}` has the path `{}`, which is no path in an archive's pool",
            self.name,
            self.path
        );
        ensure!(self.size > 0, "package `{}` has the size 0", self.name);
        Ok(())
    }
}

/// What may stand in names, versions and paths by Debian policy 5.6.1 and 5.6.12, and in file names of the pool.
fn is_path_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"+-.~_%".contains(&byte)
}

fn check_word(key: &str, word: &str) -> Result<()> {
    let plain = word.bytes().all(|byte| is_path_byte(byte) || byte == b':');
    ensure!(
        !word.is_empty() && plain,
        "the {key} `{word}` has characters that Debian does not allow there"
    );
    Ok(())
}

fn missing(what: &str, name: &str, arch: &str) -> String {
    format!(
        "the {what} `{name}` for {arch} is not in {FILE}; run `cargo xtask update` to resolve it"
    )
}

/// The error with file and line in front, as in all messages about files that people edit.
fn located(file: &str, text: &str, error: &toml::de::Error) -> anyhow::Error {
    let line =
        error.span().map_or(1, |span| 1 + text[..span.start.min(text.len())].matches('\n').count());
    anyhow::anyhow!("{file}:{line}: {}; run `cargo xtask update` to write it anew", error.message())
}

#[cfg(test)]
mod tests;
