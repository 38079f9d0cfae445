//! The text of `build.lock`: TOML with a table of pins and a table of the files that they name.
//!
//! Everything is sorted, so that the diff of an update shows exactly the changed versions. A pin
//! names a file by its package; where a lock has several versions of that package, the version
//! follows the name, as in `Cargo.lock`.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, anyhow, ensure};
use serde::{Deserialize, Serialize};

use super::{Lock, Package, Request};

const HEADER: &str = "\
# Written by `cargo xtask update`; do not edit.
# The Debian packages that this folder's pkgs/ are made of, each pinned to a version and its sha256.

";

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    #[serde(default, rename = "pin")]
    pins: Vec<Pin>,
    #[serde(default, rename = "package")]
    packages: Vec<Package>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Pin {
    name: String,
    arch: String,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    closure: bool,
    packages: Vec<String>,
}

impl Lock {
    /// Parses the file's text; `file` is its name for messages.
    pub fn parse(file: &str, text: &str) -> Result<Self> {
        let parsed: Text = toml::from_str(text).map_err(|error| located(file, text, &error))?;
        let lock = resolve(parsed).and_then(|lock| lock.check().map(|()| lock));
        lock.map_err(|error| anyhow!("{file}: {error:#}; {REPAIR}"))
    }

    /// Returns the file's text.
    pub fn render(&self) -> Result<String> {
        let mut packages: Vec<Package> = self.pins.values().flatten().cloned().collect();
        packages.sort_by(|a, b| key(a).cmp(&key(b)));
        packages.dedup();
        let pins = self.pins.iter().map(|(request, files)| Pin {
            name: request.package.clone(),
            arch: request.arch.clone(),
            closure: request.closure,
            packages: files.iter().map(|file| reference(file, &request.arch, &packages)).collect(),
        });
        let text = toml::to_string(&Text { pins: pins.collect(), packages });
        Ok(format!("{HEADER}{}", text.context("cannot write the lock as TOML")?))
    }

    /// Refuses a lock that would not read back as it is, or whose paths leave an archive's pool.
    pub(super) fn check(&self) -> Result<()> {
        let mut files = BTreeMap::new();
        for (request, packages) in &self.pins {
            let mut names = BTreeSet::new();
            for package in packages {
                package.check()?;
                ensure!(
                    names.insert(&package.name),
                    "the pin `{}` for {} has `{}` twice",
                    request.package,
                    request.arch,
                    package.name
                );
                ensure!(
                    *files.entry(key(package)).or_insert(package) == package,
                    "`{}` {} for {} is two different files",
                    package.name,
                    package.version,
                    package.arch
                );
            }
            let complete = if request.closure {
                names.contains(&request.package)
            } else {
                packages.len() == 1
            };
            ensure!(
                complete,
                "the pin `{}` for {} lacks the package itself",
                request.package,
                request.arch
            );
        }
        Ok(())
    }
}

impl Package {
    fn check(&self) -> Result<()> {
        for (key, word) in [("name", &self.name), ("arch", &self.arch), ("version", &self.version)]
        {
            let plain = word.bytes().all(|byte| is_path_byte(byte) || byte == b':');
            ensure!(
                !word.is_empty() && plain,
                "the {key} `{word}` has characters that Debian does not allow there"
            );
        }
        let segments = || self.path.split('/');
        let plain = |segment: &str| {
            !matches!(segment, "" | "." | "..") && segment.bytes().all(is_path_byte)
        };
        ensure!(
            segments().next() == Some("pool") && segments().count() > 2 && segments().all(plain),
            "package `{}` has the path `{}`, which is not a path in an archive's pool",
            self.name,
            self.path
        );
        ensure!(self.size > 0, "package `{}` has the size 0", self.name);
        Ok(())
    }
}

/// The end of every message about a lock that cannot be read.
const REPAIR: &str =
    "restore the file, or delete it and run `cargo xtask update` to write it again";

fn key(package: &Package) -> (&str, &str, &str) {
    (&package.name, &package.arch, &package.version)
}

/// The package's name, followed by its version where the lock has more than one.
fn reference(package: &Package, arch: &str, all: &[Package]) -> String {
    let namesakes = all.iter().filter(|other| other.name == package.name && is_for(other, arch));
    if namesakes.count() == 1 {
        return package.name.clone();
    }
    format!("{} {}", package.name, package.version)
}

fn is_for(package: &Package, arch: &str) -> bool {
    package.arch == arch || package.arch == "all"
}

/// Replaces the names in the pins with the files that they refer to.
fn resolve(text: Text) -> Result<Lock> {
    let mut pins = BTreeMap::new();
    for pin in text.pins {
        let find = |reference: &String| find(reference, &pin.arch, &text.packages);
        let files = pin.packages.iter().map(find).collect::<Result<Vec<_>>>();
        let files = files.with_context(|| format!("the pin `{}` for {}", pin.name, pin.arch))?;
        let request = Request { package: pin.name, arch: pin.arch, closure: pin.closure };
        let twice = format!("the pin `{}` for {} occurs twice", request.package, request.arch);
        ensure!(pins.insert(request, files).is_none(), twice);
    }
    Ok(Lock { pins })
}

fn find(reference: &str, arch: &str, all: &[Package]) -> Result<Package> {
    let (name, version) = match reference.split_once(' ') {
        Some((name, version)) => (name, Some(version)),
        None => (reference, None),
    };
    let matches = |package: &&Package| {
        package.name == name
            && is_for(package, arch)
            && version.is_none_or(|version| package.version == version)
    };
    let mut found = all.iter().filter(matches);
    let package = found.next().with_context(|| format!("there is no package `{reference}`"))?;
    ensure!(found.next().is_none(), "there are several packages `{reference}`");
    Ok(package.clone())
}

/// The bytes of names, versions and paths (Debian policy 5.6.1 and 5.6.12), and of the pool's file names.
fn is_path_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"+-.~_%".contains(&byte)
}

/// The error with file and line in front, as in all messages about files that people edit.
fn located(file: &str, text: &str, error: &toml::de::Error) -> anyhow::Error {
    let line =
        error.span().map_or(1, |span| 1 + text[..span.start.min(text.len())].matches('\n').count());
    anyhow!("{file}:{line}: {}; {REPAIR}", error.message())
}
