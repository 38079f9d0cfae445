//! `cargo xtask update`

use anyhow::{Context, Result};
use clap::Args;

use super::Target;
use crate::build::{load, read_lock, workspace};
use crate::config::{Arch, Source};
use crate::debian::apt::{self, Request};
use crate::lock;
use crate::progress::Progress;

#[derive(Debug, Args)]
pub(super) struct Update {
    #[command(flatten)]
    target: Target,
}

impl Update {
    pub(super) fn run(self) -> Result<()> {
        let workspace = workspace()?;
        let requests = requests(&self.target)?;
        let newer = apt::resolve(&requests, &Progress::new())?;
        let older = read_lock(&workspace).ok();
        let changes = older.as_ref().map(|older| older.changes(&newer));
        let path = workspace.join(lock::FILE);
        let half = path.with_extension("part");
        std::fs::write(&half, newer.render()?)
            .with_context(|| format!("cannot write {}", half.display()))?;
        std::fs::rename(&half, &path)
            .with_context(|| format!("cannot write {}", path.display()))?;
        match changes {
            Some(changes) if changes.is_empty() => println!("nothing changed"),
            Some(changes) => changes.iter().for_each(|change| println!("{change}")),
            None => println!("{} written, {} packages", path.display(), newer.packages().len()),
        }
        Ok(())
    }
}

/// Debian packages of the image and of the builder itself.
fn requests(target: &Target) -> Result<Vec<Request>> {
    let config = load(&target.file()?, Arch::X86_64)?;
    let request = |source: &Source| match source {
        Source::Deb { package, closure } => Some(Request {
            package: package.clone(),
            arch: Arch::X86_64.debian().to_owned(),
            closure: *closure,
        }),
        _ => None,
    };
    Ok(config.packages.values().filter_map(|package| request(&package.source)).collect())
}
