//! `Config` + locks + inputs → [`Plan`]: every step that makes the image, with the digest of all
//! that goes into it. The function is pure, so a plan can be printed, compared and tested.
//!
//! A step's digest names its place in the cache. Everything that can change a step's result must be
//! in its [`Recipe`]: the inputs, the versions of the tools, and the revision of the step's own
//! code.

mod dot;
mod recipes;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use anyhow::{Result, anyhow};

use crate::config::{Config, Output};
use crate::digest::Digest;
use crate::inputs::Inputs;
use crate::lock::{Locked, Locks};

/// The step that makes the file.
pub const UKI: &str = "uki";
/// The step that makes the archive.
pub const ARCHIVE: &str = "archive";
/// The step that makes the root's erofs.
pub const ROOT: &str = "root.erofs";
/// The step that makes the pods' erofs.
pub const PODS: &str = "pods.erofs";
/// The step that builds the program that makes packs.
pub const PACKER: &str = "packer";
/// The step that makes the file system for new data partitions.
pub const TEMPLATE: &str = "data template";
/// The step that chooses the kernel's modules.
pub const KERNEL: &str = "kernel";

/// All steps, by name.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    /// Name → step.
    pub steps: BTreeMap<String, Step>,
}

/// One step.
#[derive(Debug, Clone)]
pub struct Step {
    /// Its name, as users see it.
    pub name: String,
    /// The kind of step.
    pub action: Action,
    /// Steps that must be made first.
    pub needs: Vec<String>,
    /// Files that must be downloaded first.
    pub downloads: Vec<Locked>,
    /// The digest of everything that can change its result; it names the place in the cache.
    pub digest: Digest,
}

/// The kinds of steps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Downloads what a package is built from, with the downloader of its kind of source.
    Fetch(String),
    /// Makes a package's files.
    Stage(String),
    /// Chooses and indexes the kernel's modules.
    Kernel,
    /// Makes the file system for new data partitions.
    Template,
    /// Builds the program that makes packs, for this machine.
    BuildPacker,
    /// Writes the root's erofs.
    Root,
    /// Writes the pods' erofs.
    Pods,
    /// Writes the initramfs archive.
    Archive,
    /// Writes the EFI file.
    Uki,
}

impl Action {
    /// True for a step that uses the network.
    pub fn is_fetch(&self) -> bool {
        matches!(self, Self::Fetch(_))
    }
}

impl Plan {
    /// Makes the whole plan, with the host tools for `run` and `test`.
    pub fn new(config: &Config, locks: &Locks, inputs: &Inputs) -> Result<Self> {
        let mut planner = Planner { config, locks, inputs, plan: Self::default() };
        for name in config.packages.keys() {
            planner.package(name)?;
        }
        planner.image()?;
        Ok(planner.plan)
    }

    /// Returns a step that the plan must have.
    pub fn step(&self, name: &str) -> Result<&Step> {
        self.steps.get(name).ok_or_else(|| anyhow!("there is no step `{name}` in the plan"))
    }

    /// Returns the part of the plan that these steps need, with the steps themselves.
    pub fn part(&self, goals: &[&str]) -> Result<Self> {
        let mut todo = goals.iter().map(|goal| self.step(goal)).collect::<Result<Vec<_>>>()?;
        let mut part = Self::default();
        while let Some(step) = todo.pop() {
            if part.steps.insert(step.name.clone(), step.clone()).is_none() {
                for need in &step.needs {
                    todo.push(self.step(need)?);
                }
            }
        }
        Ok(part)
    }
}

/// Returns the name of the step that stages a package's files.
pub fn staged(package: &str) -> String {
    format!("package {package}")
}

struct Planner<'a> {
    config: &'a Config,
    locks: &'a Locks,
    inputs: &'a Inputs,
    plan: Plan,
}

impl Planner<'_> {
    /// Plans one package, after the libraries that it is built with.
    fn image(&mut self) -> Result<()> {
        let roots = self.listed(|output| matches!(output, Output::Rootfs(_)));
        let images = self.listed(|output| matches!(output, Output::Image(_)));
        self.kernel()?;
        self.template()?;
        self.root(&roots)?;
        self.packer();
        self.pods(&images)?;
        self.archive()?;
        self.uki()
    }

    fn listed(&self, want: fn(&Output) -> bool) -> Vec<String> {
        let listed =
            self.config.listed.iter().filter(|name| want(&self.config.package(name).output));
        listed.cloned().collect()
    }

    fn add(
        &mut self,
        name: &str,
        action: Action,
        needs: &[&str],
        downloads: Vec<Locked>,
        digest: Digest,
    ) {
        let step = Step {
            name: name.to_owned(),
            action,
            needs: needs.iter().map(|need| (*need).to_owned()).collect(),
            downloads,
            digest,
        };
        self.plan.steps.insert(name.to_owned(), step);
    }

    fn digest_of(&self, step: &str) -> Result<Digest> {
        Ok(self.plan.step(step)?.digest)
    }
}
