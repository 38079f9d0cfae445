//! `cargo xtask update`

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use kiln_base::replace::{self, Durability};

use super::target::Target;
use crate::build::{load, read_lock};
use crate::config::{self, Config};
use crate::debian::apt;
use crate::lock::{self, Draft, Lock, Request};
use crate::progress::Progress;
use kiln_host::println;

#[derive(Debug, Args)]
pub(super) struct Update {
    #[command(flatten)]
    target: Target,
    /// Move the pins of these packages (folders below pkgs/) to the newest versions
    #[arg(value_name = "NAME", conflicts_with = "all")]
    names: Vec<String>,
    /// Move all pins of the build file's own layers; those of inherited build files stay
    #[arg(long)]
    all: bool,
}

/// A layer's packages, and its lock that is being updated.
struct Layer {
    folder: PathBuf,
    /// Package → its requests, one for each architecture; empty if it is not a Debian package.
    packages: BTreeMap<String, Vec<Request>>,
    /// Requests to resolve again.
    moved: BTreeSet<Request>,
}

impl Update {
    pub(super) fn run(self) -> Result<()> {
        let config = load(&self.target.file()?, self.target.arch)?;
        let mut work = Vec::new();
        for layer in self.layers(&config)? {
            let old = read_lock(&layer.folder)?;
            let draft = layer.draft(&old, self.target.arch.debian());
            work.push((layer.folder, old, draft));
        }
        let resolved = resolve(work.iter().map(|(_, _, draft)| draft))?;
        let mut changed = false;
        for (folder, old, draft) in work {
            let new = draft.finish(&old, &resolved)?;
            changed |= replace(&folder.join(lock::FILE), &old, &new)?;
        }
        if !changed {
            println!("nothing changed");
        }
        Ok(())
    }

    /// All layers, nearest first, each with the pins that move.
    fn layers(&self, config: &Config) -> Result<Vec<Layer>> {
        let mut layers = Vec::new();
        for layer in &config.layers {
            let mut found = Layer::read(&layer.folder)?;
            if self.all && !layer.inherited {
                found.moved = found.wanted();
            }
            layers.push(found);
        }
        for name in &self.names {
            let layer = layers.iter_mut().find(|layer| layer.packages.contains_key(name));
            let layer = layer.with_context(|| {
                let folders = config.layers.iter().map(|layer| layer.folder.display().to_string());
                let folders = folders.collect::<Vec<_>>().join(", ");
                format!(
                    "there is no package `{name}`; looked for pkgs/{name}/pkg.toml in {folders}"
                )
            })?;
            layer.move_pins(name)?;
        }
        Ok(layers)
    }
}

impl Layer {
    /// Reads every package, listed or not: the lock serves all build files of the layer.
    fn read(folder: &Path) -> Result<Self> {
        let mut packages = BTreeMap::new();
        for name in subfolders(&folder.join("pkgs"))? {
            let file = folder.join("pkgs").join(&name).join("pkg.toml");
            if file.exists() {
                let requests = config::debian_requests(&|path| fs::read_to_string(path), &file)?;
                packages.insert(name, requests);
            }
        }
        Ok(Self { folder: folder.to_owned(), packages, moved: BTreeSet::new() })
    }

    fn wanted(&self) -> BTreeSet<Request> {
        self.packages.values().flatten().cloned().collect()
    }

    fn move_pins(&mut self, name: &str) -> Result<()> {
        let requests = &self.packages[name];
        ensure!(
            !requests.is_empty(),
            "{}: there is no [source.deb] table, so build.lock has no pin to move",
            self.folder.join("pkgs").join(name).join("pkg.toml").display()
        );
        self.moved.extend(requests.iter().cloned());
        Ok(())
    }

    fn draft(&self, old: &Lock, arch: &str) -> Draft {
        old.draft(&self.wanted(), arch, |request| self.moved.contains(request))
    }
}

/// Resolves the open requests of all layers against one state of the archive.
fn resolve<'a>(drafts: impl Iterator<Item = &'a Draft>) -> Result<Lock> {
    let open: BTreeSet<Request> = drafts.flat_map(|draft| draft.open.iter().cloned()).collect();
    if open.is_empty() { Ok(Lock::default()) } else { apt::resolve(&open, &Progress::new()) }
}

/// Writes a lock if it changed, and prints the differences; a lock without pins is removed.
fn replace(path: &Path, old: &Lock, new: &Lock) -> Result<bool> {
    if new == old {
        return Ok(false);
    }
    if new.is_empty() {
        fs::remove_file(path).with_context(|| format!("cannot remove {}", path.display()))?;
    } else {
        replace::write(path, new.render()?.as_bytes(), 0o644, Durability::File)
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    println!("{}:", path.display());
    old.changes(new).iter().for_each(|change| println!("  {change}"));
    Ok(true)
}

/// The names of the folders in `dir`, sorted; empty if `dir` does not exist.
fn subfolders(dir: &Path) -> Result<Vec<String>> {
    let list = || -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            if let (true, Ok(name)) = (entry.path().is_dir(), entry.file_name().into_string()) {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    };
    match list() {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => bail!("cannot read {}: {error}", dir.display()),
        Ok(names) => Ok(names),
    }
}
