//! The facts about disk and host that planning needs: digests of folders, versions of compilers.
//!
//! They are read once, before planning; the plan itself is a pure function of them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::config::{Config, Output};
use crate::digest::{Digest, Recipe};
use crate::lock::Locks;
use crate::source::{Facts, Known, Toolchain, crates};
use crate::walk::{self, NOT_BUILT};

/// The crate that makes packs, below the workspace.
const PACKER: &str = "pkgs/static-server";

/// All facts for one configuration.
#[derive(Debug, Clone, Default)]
pub struct Inputs {
    /// The repository's root.
    pub workspace: PathBuf,
    /// The compilers that the listed packages need.
    pub toolchain: Toolchain,
    /// Package → facts about its folder.
    pub facts: BTreeMap<String, Facts>,
    /// The digest of each layer's `rootfs`, in the configuration's order; `None` if it is missing.
    pub rootfs: Vec<Option<Digest>>,
    /// The digest of the crate that makes packs, if an image has one.
    pub packer: Option<Digest>,
    /// The folders and links that every root has, as text.
    pub layout: String,
}

impl Inputs {
    /// Reads the facts for this configuration; compilers that it does not need may be missing.
    pub fn read(config: &Config, workspace: &Path, layout: String) -> Result<Self> {
        let mut inputs = Self { workspace: workspace.to_owned(), layout, ..Self::default() };
        for name in config.packages.keys() {
            if let Some(facts) = inputs.look(config, name)? {
                inputs.facts.insert(name.clone(), facts);
            }
        }
        for rootfs in &config.rootfs {
            let digest = if rootfs.exists() { Some(walk::digest(rootfs, &[])?) } else { None };
            inputs.rootfs.push(digest);
        }
        if config.images().any(|(package, _)| package.packs().next().is_some()) {
            inputs.toolchain.need_rust(workspace, config.arch)?;
            let recipe = Recipe::new("packer");
            let recipe = crates::closure(recipe, workspace.join(PACKER), workspace)?;
            inputs.packer = Some(recipe.finish());
        }
        Ok(inputs)
    }

    /// Returns everything that is known about a package.
    pub fn known<'a>(&'a self, config: &'a Config, locks: &'a Locks, name: &'a str) -> Known<'a> {
        Known {
            package: config.subject(name),
            facts: self.facts.get(name),
            toolchain: &self.toolchain,
            locks,
        }
    }

    fn look(&mut self, config: &Config, name: &str) -> Result<Option<Facts>> {
        let (package, subject) = (config.package(name), config.subject(name));
        let kind = package.source.kind();
        let facts = kind.look(&subject, &self.workspace, &mut self.toolchain)?;
        if facts.is_some() || !matches!(package.output, Output::Image(_)) {
            return Ok(facts);
        }
        // An image can take files of the package's folder.
        let digest = walk::digest(&package.folder, &NOT_BUILT)?;
        Ok(Some(Facts { digest, go_mod: String::new() }))
    }
}
