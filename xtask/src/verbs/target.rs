//! The image that a verb works on.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;

use crate::arch::Arch;
use crate::build::{Builder, workspace};
use crate::progress::Progress;

/// The image.
#[derive(Debug, Args)]
pub(super) struct Target {
    /// The build file
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// The architecture of the image
    #[arg(long, value_enum, default_value_t = Arch::HOST)]
    pub(super) arch: Arch,
}

impl Target {
    /// The requested build file, or the repository's own.
    pub(super) fn file(&self) -> Result<PathBuf> {
        match &self.config {
            Some(path) => whole(path),
            None => Ok(workspace()?.join("build.toml")),
        }
    }

    pub(super) fn open(&self) -> Result<Builder> {
        Builder::open(&self.file()?, self.arch, Progress::new())
    }
}

/// An absolute path without `..`, so that messages and locks name each folder in one way.
fn whole(path: &Path) -> Result<PathBuf> {
    let path = std::path::absolute(path)?;
    let parts = path.parent().zip(path.file_name());
    let (folder, name) = parts.with_context(|| format!("{} is not a file", path.display()))?;
    let folder = folder.canonicalize();
    Ok(folder.with_context(|| format!("cannot read {}", path.display()))?.join(name))
}
