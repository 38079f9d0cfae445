//! `cargo xtask check`

mod hostile;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use kiln_host::println;
use xshell::cmd;

use super::target::Target;
use crate::build::Builder;
use crate::cache;
use crate::digest::Digest;
use crate::fetch;
use crate::fetch::mirror::SNAPSHOT;
use crate::lock::{Locked, Origin};
use crate::process::{Command, shell};

/// Folders of the cache that both builds share, because their files are checked when they are used.
const SHARED: [&str; 4] =
    ["downloads", "tools/go-mod", "tools/cargo/registry/cache", "tools/cargo/registry/index"];

#[derive(Debug, Args)]
pub(super) struct Check {
    #[command(flatten)]
    target: Target,
    /// Build a second time, in another folder with another cache and hostile settings,
    /// and compare the files byte by byte
    #[arg(long)]
    reproducible: bool,
}

impl Check {
    pub(super) fn run(self) -> Result<()> {
        let builder = self.target.open()?;
        println!(
            "{}: {} steps, {} pods",
            builder.config.name,
            builder.plan.steps.len(),
            builder.config.pods.len()
        );
        warn_of_pins(&builder);
        if self.reproducible { reproduce(&builder, &self.target) } else { Ok(()) }
    }
}

/// Warns about pinned versions that have left the mirror: a build with a full cache does not notice.
fn warn_of_pins(builder: &Builder) {
    let pinned = |file: &&Locked| matches!(file.origin, Origin::Pool { .. });
    let steps = builder.plan.steps.values();
    let files: Vec<&Locked> = steps.flat_map(|step| &step.downloads).filter(pinned).collect();
    match fetch::gone(&files, &builder.progress) {
        Ok(gone) => gone.into_iter().for_each(warn_of_pin),
        Err(error) => {
            println!("warning: cannot check that the mirror has all pinned files: {error:#}");
        }
    }
}

fn warn_of_pin(Locked { name, origin, .. }: &Locked) {
    let Origin::Pool { renew, .. } = origin else { return };
    println!(
        "warning: the mirror no longer has {name}; run `{renew}` to pin its current version, \
         or set {SNAPSHOT} to a mirror of snapshots"
    );
}

fn reproduce(builder: &Builder, target: &Target) -> Result<()> {
    let file = target.file()?;
    let file = file.strip_prefix(&builder.inputs.workspace).with_context(|| {
        format!(
            "{} is outside the repository, and only a copy of the repository is built",
            file.display()
        )
    })?;
    let first = builder.image()?.efi;
    let scratch = tempfile::Builder::new().prefix("kiln reproducible, ").tempdir()?;
    let copy = scratch.path().join("a copy, of the tree");
    copy_repository(&builder.inputs.workspace, &copy)?;
    let cache = scratch.path().join("cache");
    share(builder.cache.root(), &cache)?;
    println!("building again in {}", copy.display());
    let (sh, arch) = (shell()?, target.arch.to_string());
    let command = cmd!(sh, "cargo xtask build --config {file} --arch {arch}");
    let command = hostile::run(command.into(), &copy)?.env("KILN_CACHE", &cache);
    command.spawn()?.wait()?;
    let second = copy.join("target/kiln").join(first.file_name().context("the image has no name")?);
    compare(&first, &second)
}

/// Copies the files that git tracks, and untracked files that it does not ignore.
fn copy_repository(from: &Path, to: &Path) -> Result<()> {
    let sh = shell()?;
    let list = cmd!(sh, "git ls-files -z --cached --others --exclude-standard");
    let list = Command::from(list).dir(from);
    for name in list.read()?.split_terminator('\0') {
        let (source, target) = (from.join(name), to.join(name));
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent)?;
        }
        if source.is_symlink() {
            std::os::unix::fs::symlink(fs::read_link(&source)?, &target)?;
        } else if source.exists() {
            fs::copy(&source, &target).with_context(|| format!("cannot copy {name}"))?;
        }
    }
    Ok(())
}

/// Makes a cache that shares [`SHARED`] with another one.
fn share(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    // Without the tag, the second build would refuse the folder as a cache.
    fs::copy(from.join(cache::TAG), to.join(cache::TAG)).context("cannot copy the cache's tag")?;
    for name in SHARED {
        let (from, to): (PathBuf, PathBuf) = (from.join(name), to.join(name));
        fs::create_dir_all(to.parent().context("a cache has a folder")?)?;
        std::os::unix::fs::symlink(from, to)?;
    }
    Ok(())
}

fn compare(first: &Path, second: &Path) -> Result<()> {
    let (a, b) = (fs::read(first)?, fs::read(second)?);
    if let Some(at) = a.iter().zip(&b).position(|(a, b)| a != b) {
        bail!("{} and {} differ from byte {at} on", first.display(), second.display());
    }
    ensure!(
        a.len() == b.len(),
        "{} has {} bytes, {} has {}",
        first.display(),
        a.len(),
        second.display(),
        b.len()
    );
    println!("identical: {} bytes, sha256 {}", a.len(), Digest::of_bytes(&a));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cache_that_shares_downloads_is_recognised_as_a_cache() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        cache::prepare(&from).unwrap();
        share(&from, &to).unwrap();
        cache::prepare(&to).unwrap();
        assert!(to.join("downloads").is_symlink() && to.join("tools/go-mod").is_symlink());
    }
}
