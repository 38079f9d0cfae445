//! The next state of a lock: missing pins are added, unneeded ones are removed, the others stay.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};

use super::{Lock, Package, Request};

/// A lock that is being updated.
#[derive(Debug, PartialEq, Eq)]
pub struct Draft {
    /// The pins that stay.
    pins: BTreeMap<Request, Vec<Package>>,
    /// The requests to resolve.
    pub open: BTreeSet<Request>,
}

impl Lock {
    /// Starts an update for one architecture.
    ///
    /// `wanted` has the requests of the whole layer for every architecture: a pin of another
    /// architecture stays as long as the layer still has its package. `moves` is true for the
    /// requests that are resolved again although they are pinned.
    pub fn draft(
        &self,
        wanted: &BTreeSet<Request>,
        arch: &str,
        moves: impl Fn(&Request) -> bool,
    ) -> Draft {
        let here = |request: &Request| request.arch == arch;
        let stays =
            |request: &Request| wanted.contains(request) && !(here(request) && moves(request));
        let pins: BTreeMap<_, _> = self
            .pins
            .iter()
            .filter(|(request, _)| stays(request))
            .map(|(request, files)| (request.clone(), files.clone()))
            .collect();
        let open = wanted.iter().filter(|request| here(request) && !pins.contains_key(request));
        Draft { open: open.cloned().collect(), pins }
    }

    /// The differences to a newer state, one line for each package: added, removed, `old -> new`.
    pub fn changes(&self, newer: &Self) -> Vec<String> {
        let (old, new) = (self.versions(), newer.versions());
        let keys: BTreeSet<_> = old.keys().chain(new.keys()).collect();
        let line = |key: &&(&str, &str)| {
            let (name, arch) = key;
            match (old.get(*key), new.get(*key)) {
                (Some(from), Some(to)) if from != to => {
                    Some(format!("{name} ({arch}): {} -> {}", list(from), list(to)))
                }
                (Some(gone), None) => Some(format!("{name} ({arch}): {} removed", list(gone))),
                (None, Some(added)) => Some(format!("{name} ({arch}): {} added", list(added))),
                _ => None,
            }
        };
        keys.iter().filter_map(line).collect()
    }

    /// Name and architecture → all pinned versions.
    fn versions(&self) -> BTreeMap<(&str, &str), BTreeSet<&str>> {
        let mut versions: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
        for package in self.pins.values().flatten() {
            let key = (package.name.as_str(), package.arch.as_str());
            versions.entry(key).or_default().insert(package.version.as_str());
        }
        versions
    }
}

impl Draft {
    /// Completes the update with the files in `resolved`.
    ///
    /// A file that `old` has too keeps its old snapshot, so that only real changes show in a diff.
    pub fn finish(self, old: &Lock, resolved: &Lock) -> Result<Lock> {
        let known: Vec<&Package> = old.pins.values().flatten().collect();
        let mut pins = self.pins;
        for request in self.open {
            let files = resolved.files(&request);
            let files = files.with_context(|| format!("`{}` was not resolved", request.package))?;
            let files = files.iter().map(|file| {
                let same = known.iter().find(|old| old.sha256 == file.sha256);
                same.map_or_else(|| file.clone(), |old| (*old).clone())
            });
            let files = files.collect();
            pins.insert(request, files);
        }
        Lock::new(pins)
    }
}

fn list(versions: &BTreeSet<&str>) -> String {
    versions.iter().copied().collect::<Vec<_>>().join(" and ")
}
