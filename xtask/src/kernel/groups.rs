//! The modules of each group, as a file that the kernel's step writes.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

/// The file in the kernel's step.
const FILE: &str = "groups.json";

/// Modules that a common node does not load from the root. A module that several groups need belongs to the first one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grouped {
    /// The group's name.
    pub name: String,
    /// Its use.
    pub about: String,
    /// Paths of its modules, relative to the folder of the kernel's release.
    pub paths: Vec<String>,
}

/// A group of modules that is not in the image.
#[derive(Debug, PartialEq, Eq)]
pub struct LeftOut {
    /// The group's name.
    pub name: String,
    /// Its use.
    pub about: String,
    /// The length in bytes of all modules that the image lacks.
    pub raw: u64,
    /// The same in the kernel's package, which compresses them with LZMA.
    pub compressed: u64,
}

/// Reads the groups from the kernel's step.
pub fn read(kernel: &Path) -> Result<Vec<Grouped>> {
    let path = kernel.join(FILE);
    let text =
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{} is damaged", path.display()))
}

/// Writes the groups into the kernel's step.
pub fn write(groups: &[Grouped], out: &Path) -> Result<()> {
    let text = serde_json::to_string_pretty(groups).context("cannot write JSON")?;
    fs::write(out.join(FILE), text).context("cannot write the groups of modules")
}
