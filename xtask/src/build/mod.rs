//! Runs a plan: finds what is missing, fetches what that needs, makes it, in order.
//!
//! Only steps on the way to a goal are looked at, and none whose result is in the cache.
//! Independent steps run side by side: linking Go programs and compressing use one core only.

pub mod machine;
mod make;
mod report;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, PoisonError};
use std::thread;

use anyhow::{Context, Result, bail};

use crate::arch::Arch;
use crate::cache::{Cache, Entry};
use crate::config::{Config, Layer};
use crate::fetch;
use crate::inputs::Inputs;
use crate::lock::{self, Lock, Locks};
use crate::plan::{Plan, Step, UKI};
use crate::progress::Progress;
use crate::tree;

pub use make::{image_files, packer, tool};
pub use report::{Item, Report};

/// Steps that run at once. More would not be faster: Go and cargo use all cores themselves.
const WORKERS: usize = 2;

/// Files that only the root of Kiln's workspace has all of.
const WORKSPACE_FILES: [&str; 3] = ["Cargo.toml", "build.toml", "xtask/Cargo.toml"];

/// A configuration with its plan, and where to make it.
pub struct Builder {
    /// What is built.
    pub config: Config,
    /// How.
    pub plan: Plan,
    /// What the plan was made from.
    pub inputs: Inputs,
    /// The pinned Debian packages of all layers.
    pub locks: Locks,
    /// Where results are kept.
    pub cache: Cache,
    /// Where progress is shown.
    pub progress: Progress,
}

/// A finished image.
#[derive(Debug, Clone)]
pub struct Built {
    /// The EFI file.
    pub efi: PathBuf,
    /// What is in it.
    pub report: Report,
}

/// What has been made, and what is still to be made.
struct Queue<'a> {
    waiting: Vec<&'a Step>,
    running: usize,
    done: BTreeMap<String, Entry>,
    failed: bool,
}

impl Builder {
    /// Reads a build file and plans it. Touches no network.
    pub fn open(path: &Path, arch: Arch, progress: Progress) -> Result<Self> {
        let workspace = workspace()?;
        let config = load(path, arch)?;
        let inputs = Inputs::read(&config, &workspace, format!("{:?}", tree::root::layout()))?;
        let locks = read_locks(&config, update_command(path, &workspace, arch))?;
        let plan = Plan::new(&config, &locks, &inputs)?;
        let cache = Cache::open(&progress)?;
        Ok(Self { config, plan, inputs, locks, cache, progress })
    }

    /// Makes the image and puts it into `target/kiln/`.
    pub fn image(&self) -> Result<Built> {
        let entry = self.make(&[UKI])?.remove(UKI).context("the image was not made")?;
        report::publish(self, &entry)
    }

    /// Downloads all that building, running and testing need.
    pub fn fetch(&self) -> Result<()> {
        let files: Vec<_> =
            self.plan.steps.values().flat_map(|step| step.downloads.iter().cloned()).collect();
        fetch::all(&files, &self.cache, &self.progress)?;
        let steps: Vec<&str> = self
            .plan
            .steps
            .values()
            .filter(|s| s.action.is_fetch())
            .map(|s| s.name.as_str())
            .collect();
        self.make(&steps).map(drop)
    }

    /// Makes these steps and all that they need, and returns the cache entries of all of them.
    pub fn make(&self, goals: &[&str]) -> Result<BTreeMap<String, Entry>> {
        let mut queue =
            Queue { waiting: Vec::new(), running: 0, done: BTreeMap::new(), failed: false };
        let mut seen = BTreeSet::new();
        for goal in goals {
            let step = self.plan.step(goal)?;
            match self.cache.find(step.digest)? {
                Some(entry) => drop(queue.done.insert(step.name.clone(), entry)),
                None => self.collect(step, &mut queue, &mut seen)?,
            }
        }
        let files: Vec<_> =
            queue.waiting.iter().flat_map(|step| step.downloads.iter().cloned()).collect();
        fetch::all(&files, &self.cache, &self.progress)?;
        self.run(queue)
    }

    /// Depth first, so that a step comes after what it needs. What a step reads must be intact to the last byte.
    fn collect<'a>(
        &'a self,
        step: &'a Step,
        queue: &mut Queue<'a>,
        seen: &mut BTreeSet<&'a str>,
    ) -> Result<()> {
        if !seen.insert(&step.name) {
            return Ok(());
        }
        for need in &step.needs {
            let need = self.plan.step(need)?;
            match self.cache.intact(need.digest)? {
                Some(entry) => drop(queue.done.insert(need.name.clone(), entry)),
                None => self.collect(need, queue, seen)?,
            }
        }
        queue.waiting.push(step);
        Ok(())
    }

    fn run(&self, queue: Queue<'_>) -> Result<BTreeMap<String, Entry>> {
        let shared = (Mutex::new(queue), Condvar::new());
        let results = thread::scope(|scope| {
            let workers: Vec<_> =
                (0..WORKERS).map(|_| scope.spawn(|| self.work(&shared))).collect();
            let joined = workers.into_iter().map(thread::ScopedJoinHandle::join);
            joined
                .map(|result| result.unwrap_or_else(|_| bail!("a worker ended in a panic")))
                .collect::<Vec<_>>()
        });
        results.into_iter().collect::<Result<()>>()?;
        Ok(shared.0.into_inner().unwrap_or_else(PoisonError::into_inner).done)
    }

    fn work(&self, (queue, changed): &(Mutex<Queue<'_>>, Condvar)) -> Result<()> {
        let mut state = queue.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if state.failed || state.waiting.is_empty() {
                return Ok(());
            }
            let Some((step, needs)) = state.take_ready() else {
                state = changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            state.running += 1;
            drop(state);
            let made = self.make_step(step, &needs);
            state = queue.lock().unwrap_or_else(PoisonError::into_inner);
            state.running -= 1;
            let failed = match made {
                Ok(entry) => state.done.insert(step.name.clone(), entry).and(None),
                Err(error) => Some(error),
            };
            state.failed |= failed.is_some();
            changed.notify_all();
            if let Some(error) = failed {
                return Err(error);
            }
        }
    }

    fn make_step(&self, step: &Step, needs: &BTreeMap<String, Entry>) -> Result<Entry> {
        self.cache
            .step(step.digest, &step.name, |dir| make::run(self, step, needs, dir))
            .with_context(|| format!("step `{}` failed", step.name))
    }
}

impl<'a> Queue<'a> {
    /// The first step whose needs are all there, with them.
    fn take_ready(&mut self) -> Option<(&'a Step, BTreeMap<String, Entry>)> {
        let ready = |step: &&Step| step.needs.iter().all(|need| self.done.contains_key(need));
        let at = self.waiting.iter().position(ready)?;
        let step = self.waiting.remove(at);
        let needs =
            step.needs.iter().filter_map(|need| Some((need.clone(), self.done.get(need)?.clone())));
        Some((step, needs.collect()))
    }
}

/// Reads a build file and what it names.
pub fn load(path: &Path, arch: Arch) -> Result<Config> {
    Config::load(&|path| std::fs::read_to_string(path), path, arch)
}

/// The workspace of this invocation: the one that `cargo xtask` was called in.
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
/// The second is for a binary that was started without cargo, or by the cargo of another project.
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
