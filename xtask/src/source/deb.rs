//! `[source.deb]`: files out of a Debian package, which `build.lock` pins.

use std::path::PathBuf;

use anyhow::Result;
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
}

/// A Debian package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deb {
    /// The name that the lock pins.
    pub request: Request,
}

impl Table {
    pub(super) fn check(&self, place: &Place<'_>) -> Deb {
        Deb { request: self.request(place.arch) }
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
        let recipe = match package.smoke {
            Some(smoke) => recipe.field("smoke", format!("{smoke:?}")),
            None => recipe,
        };
        Ok(Planned { fetch: None, downloads, digest: recipe.finish() })
    }

    fn stage(&self, making: &Making<'_>) -> Result<()> {
        let files: Vec<PathBuf> = making.downloads.iter().map(|file| file.path.clone()).collect();
        let _task = making.progress.task(&format!("{}: unpack", making.package.name), None);
        deb::sysroot(&files, making.out)?;
        smoke::run(&making.package, making.out)
    }

    fn version(&self, known: &Known<'_>) -> Result<Option<String>> {
        let package = known.package;
        known.locks.version(package.layer, package.name, &self.request).map(Some)
    }
}
