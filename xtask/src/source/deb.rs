//! `[source.deb]`: files out of a Debian package, which `build.lock` pins.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use super::kind::{Kind, Known, Making, Place, Planned};
use super::smoke;
use crate::arch::Arch;
use crate::debian::deb;
use crate::digest::{Digest, Recipe};
use crate::lock::Request;
use crate::revision;

/// The table as it is written.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Table {
    package: String,
    #[serde(default)]
    closure: bool,
    #[serde(default)]
    joined: BTreeMap<String, String>,
    #[serde(default)]
    without: Vec<String>,
}

/// A Debian package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deb {
    /// The name that the lock pins.
    pub request: Request,
    /// Names of files to make, each with the folder whose files it joins.
    pub joined: BTreeMap<String, String>,
    /// Names of files and folders that are left out, in whatever folder they are.
    pub without: Vec<String>,
}

impl Table {
    pub(super) fn check(&self, place: &Place<'_>) -> Deb {
        let (joined, without) = (self.joined.clone(), self.without.clone());
        Deb { request: self.request(place.arch), joined, without }
    }

    /// Returns the names to resolve, for every architecture.
    ///
    /// A lock also pins packages that the current build does not list.
    pub(super) fn requests(&self) -> Vec<Request> {
        Arch::ALL.map(|arch| self.request(arch)).into()
    }

    fn request(&self, arch: Arch) -> Request {
        Request {
            package: self.package.replace("${debian-arch}", arch.debian()),
            arch: arch.debian().to_owned(),
            closure: self.closure,
        }
    }
}

impl Kind for Deb {
    fn plan(&self, known: &Known<'_>, _: &[Digest]) -> Result<Planned> {
        let package = known.package;
        let downloads = known.locks.debs(package.layer, package.name, &self.request)?;
        let recipe = downloads.iter().fold(Recipe::new(revision::DEB), |recipe, file| {
            recipe.digest(&file.name, file.sha256)
        });
        let recipe = self.without.iter().fold(recipe, |recipe, name| recipe.field("without", name));
        let recipe = match package.smoke {
            Some(smoke) => recipe.field("smoke", format!("{smoke:?}")),
            None => recipe,
        };
        let recipe = self.joined.iter().fold(recipe, |recipe, (file, folder)| {
            recipe.field("joined", format!("{file} {folder}"))
        });
        Ok(Planned { fetch: None, downloads, digest: recipe.finish() })
    }

    fn stage(&self, making: &Making<'_>) -> Result<()> {
        let files: Vec<PathBuf> = making.downloads.iter().map(|file| file.path.clone()).collect();
        let _task = making.progress.task(&format!("{}: unpack", making.package.name), None);
        deb::sysroot(&files, &self.without, making.out)?;
        for (file, folder) in &self.joined {
            join(&making.out.join(folder.trim_start_matches('/')), &making.out.join(file))?;
        }
        smoke::run(&making.package, making.out)
    }

    fn version(&self, known: &Known<'_>) -> Result<Option<String>> {
        let package = known.package;
        known.locks.version(package.layer, package.name, &self.request).map(Some)
    }
}

/// Joins all files of a folder in the order of their names, each with a final newline.
fn join(folder: &Path, into: &Path) -> Result<()> {
    let entries =
        fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?;
    let mut files = entries
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<Vec<_>, _>>()
        .with_context(|| format!("cannot list {}", folder.display()))?;
    files.sort();
    ensure!(!files.is_empty(), "{} has no file to join", folder.display());
    let mut all = Vec::new();
    for file in files {
        all.extend(fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?);
        if !all.ends_with(b"\n") {
            all.push(b'\n');
        }
    }
    fs::write(into, all).with_context(|| format!("cannot write {}", into.display()))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::join;

    #[test]
    fn files_are_joined_in_the_order_of_their_names() {
        let folder = tempfile::tempdir().unwrap();
        let (from, into) = (folder.path().join("from"), folder.path().join("into"));
        fs::create_dir(&from).unwrap();
        assert!(join(&from, &into).is_err(), "an empty folder is a mistake");
        fs::write(from.join("b.crt"), "second").unwrap();
        fs::write(from.join("a.crt"), "first\n").unwrap();
        join(&from, &into).unwrap();
        assert_eq!(fs::read_to_string(&into).unwrap(), "first\nsecond\n");
    }
}
