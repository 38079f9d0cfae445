//! A configuration with its plan, and everything that is needed to make it.
//!
//! `queue` runs the plan, `make` makes one step, `report` lists the contents of a finished image.

mod container;
pub mod machine;
mod made;
mod make;
mod queue;
mod report;
pub mod staged;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::arch::Arch;
use crate::assemble;
use crate::cache::Cache;
use crate::config::{Config, Layer};
use crate::inputs::Inputs;
use crate::lock::{self, Lock, Locks};
use crate::plan::Plan;
use crate::progress::Progress;

pub use made::{packer, tool};
pub use make::image_files;
pub use report::{Item, Report};

/// Files that only the root of Kiln's workspace has all of.
const WORKSPACE_FILES: [&str; 3] = ["Cargo.toml", "build.toml", "xtask/Cargo.toml"];

/// A configuration with its plan, and the cache to make it in.
pub struct Builder {
    /// The image to build.
    pub config: Config,
    /// The steps that make it.
    pub plan: Plan,
    /// The facts that the plan was made from.
    pub inputs: Inputs,
    /// The pinned Debian packages of all layers.
    pub locks: Locks,
    /// The place for results.
    pub cache: Cache,
    /// The display of progress.
    pub progress: Progress,
}

impl Builder {
    /// Reads a build file and plans it. Uses no network.
    pub fn open(path: &Path, arch: Arch, progress: Progress) -> Result<Self> {
        Self::open_with(path, arch, progress, &[])
    }

    /// Reads a build file, as if its `packages` had these names too.
    pub fn open_with(
        path: &Path,
        arch: Arch,
        progress: Progress,
        packages: &[String],
    ) -> Result<Self> {
        let workspace = workspace()?;
        let config = Config::load_with(&read, path, arch, packages)?;
        let inputs = Inputs::read(&config, &workspace, format!("{:?}", assemble::root::layout()))?;
        let locks = read_locks(&config, update_command(path, &workspace, arch))?;
        let plan = Plan::new(&config, &locks, &inputs)?;
        let cache = Cache::open(&progress)?;
        Ok(Self { config, plan, inputs, locks, cache, progress })
    }
}

/// Reads a build file and all that it names.
pub fn load(path: &Path, arch: Arch) -> Result<Config> {
    Config::load(&read, path, arch)
}

fn read(path: &Path) -> std::io::Result<String> {
    std::fs::read_to_string(path)
}

/// Returns the workspace in which `cargo xtask` was called.
///
/// It cannot be compiled in, because cargo runs the old binary in a checkout that was moved or
/// copied together with its `target`.
pub fn workspace() -> Result<PathBuf> {
    let here = std::env::current_dir().context("cannot find the current folder")?;
    let manifest = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    find_workspace(manifest.as_deref(), &here)
}

/// Searches upward from the manifest that cargo runs, then from the current folder.
///
/// The second search is for a binary that was started without cargo, or by the cargo of another
/// project.
fn find_workspace(manifest: Option<&Path>, here: &Path) -> Result<PathBuf> {
    let is_workspace = |dir: &&Path| WORKSPACE_FILES.iter().all(|file| dir.join(file).is_file());
    let found = manifest.into_iter().chain([here]).flat_map(Path::ancestors).find(is_workspace);
    found.map(Path::to_owned).with_context(|| {
        format!(
            "cannot find Kiln's workspace in {} or above; run `cargo xtask` in a checkout of Kiln",
            here.display()
        )
    })
}

/// Reads the lock of a layer; a layer without one has no pins.
pub fn read_lock(layer: &Path) -> Result<Lock> {
    let path = layer.join(lock::FILE);
    match std::fs::read_to_string(&path) {
        Ok(text) => Lock::parse(&path.display().to_string(), &text),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Lock::default()),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

fn read_locks(config: &Config, update: String) -> Result<Locks> {
    let read = |layer: &Layer| Ok((layer.folder.clone(), read_lock(&layer.folder)?));
    let layers = config.layers.iter().map(read).collect::<Result<_>>()?;
    Ok(Locks { layers, update })
}

/// The command that resolves the Debian packages of a build file, as a user types it.
fn update_command(file: &Path, workspace: &Path, arch: Arch) -> String {
    let mut words = vec!["cargo xtask update".to_owned()];
    if file != workspace.join("build.toml") {
        words.push(format!("--config {}", file.display()));
    }
    if arch != Arch::HOST {
        words.push(format!("--arch {arch}"));
    }
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_build_file_can_be_planned_with_all_tools() {
        let workspace = workspace().unwrap();
        let file = workspace.join("build.toml");
        let config = load(&file, Arch::X86_64).unwrap();
        let layout = format!("{:?}", assemble::root::layout());
        let inputs = Inputs::read(&config, &workspace, layout).unwrap();
        let locks = read_locks(&config, String::new()).unwrap();
        let plan = Plan::new(&config, &locks, &inputs).unwrap();
        for name in config.packages.keys() {
            assert!(plan.steps.contains_key(&crate::plan::staged(name)), "{name}");
        }
    }
}
