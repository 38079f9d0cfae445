//! `cargo xtask update`

use anyhow::{Context, Result};
use clap::Args;

use super::Target;
use crate::build::{load, read_lock, workspace};
use crate::config::Source;
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

/// Debian packages of the repository's own image, of the one that was asked for, and of the builder itself.
///
/// There is one lock, so an update for another build file must not drop what the repository's own needs.
fn requests(target: &Target) -> Result<Vec<Request>> {
    let own = workspace()?.join("build.toml");
    let mut requests = Vec::new();
    for file in [own, target.file()?] {
        for package in load(&file, target.arch)?.packages.values() {
            let Source::Deb { package, closure } = &package.source else { continue };
            let arch = target.arch.debian().to_owned();
            let request = Request { package: package.clone(), arch, closure: *closure };
            if !requests.contains(&request) {
                requests.push(request);
            }
        }
    }
    Ok(requests)
}
