//! The results of steps that have been made, and the programs among them.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Result, anyhow};

use crate::cache::Entry;
use crate::host::HostTool;
use crate::plan::{PACKER, staged};

/// Step → its entry in the cache.
pub type Made = BTreeMap<String, Entry>;

/// The program that makes packs.
pub(super) const PACKER_PROGRAM: &str = "static-server-pack";

/// Returns the program that makes packs.
pub fn packer(made: &Made) -> Result<PathBuf> {
    Ok(dir(made, PACKER)?.join(PACKER_PROGRAM))
}

/// Returns a program out of a package.
pub fn tool(made: &Made, package: &str, program: &str) -> Result<HostTool> {
    Ok(HostTool::new(&dir(made, &staged(package))?, program))
}

/// Returns the folder of a step.
pub(super) fn dir(made: &Made, step: &str) -> Result<PathBuf> {
    let entry = made.get(step).ok_or_else(|| anyhow!("step `{step}` was not made"))?;
    Ok(entry.path().to_owned())
}
