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

use crate::cache::{Cache, Entry};
use crate::config::{Arch, Config};
use crate::fetch;
use crate::inputs::Inputs;
use crate::lock::{self, Lock};
use crate::plan::{Plan, Step, UKI};
use crate::progress::Progress;

pub use make::{image_files, packer, tool};
#[cfg(test)]
pub use report::Item;
pub use report::Report;

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
        let inputs = Inputs::read(&config, &workspace)?;
        let lock = read_lock(&workspace)?;
        let plan = Plan::new(&config, &lock, &inputs)?;
        let cache = Cache::open(&progress)?;
        Ok(Self { config, plan, inputs, cache, progress })
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

/// Reads build.lock.
pub fn read_lock(workspace: &Path) -> Result<Lock> {
    let path = workspace.join(lock::FILE);
    let text = std::fs::read_to_string(&path).with_context(|| {
        format!("cannot read {}; `cargo xtask update` writes it", path.display())
    })?;
    Lock::parse(&path.display().to_string(), &text)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Makes a checkout and returns the folder of the builder's manifest.
    fn checkout(dir: &Path) -> PathBuf {
        std::fs::create_dir_all(dir.join("xtask")).unwrap();
        for file in WORKSPACE_FILES {
            std::fs::write(dir.join(file), "").unwrap();
        }
        dir.join("xtask")
    }

    #[test]
    fn a_checkout_that_was_renamed_is_found_at_its_new_place() {
        let dir = tempfile::tempdir().unwrap();
        let (old, new) = (dir.path().join("old"), dir.path().join("new"));
        checkout(&old);
        std::fs::rename(&old, &new).unwrap();
        let manifest = new.join("xtask");
        assert_eq!(find_workspace(Some(&manifest), dir.path()).unwrap(), new);
        assert_eq!(find_workspace(None, &new.join("xtask/src")).unwrap(), new);
    }

    #[test]
    fn a_copy_builds_itself_and_not_the_original() {
        let dir = tempfile::tempdir().unwrap();
        let original = checkout(&dir.path().join("original"));
        let copy = checkout(&dir.path().join("copy"));
        // `cargo xtask` in the copy, called from a folder of the original or from elsewhere.
        for here in [original.as_path(), dir.path()] {
            assert_eq!(find_workspace(Some(&copy), here).unwrap(), copy.parent().unwrap());
        }
    }

    #[test]
    fn another_projects_cargo_does_not_choose_the_workspace() {
        let dir = tempfile::tempdir().unwrap();
        let kiln = checkout(&dir.path().join("kiln"));
        let other = dir.path().join("other");
        assert_eq!(find_workspace(Some(&other), &kiln).unwrap(), kiln.parent().unwrap());
    }

    #[test]
    fn outside_of_a_checkout_the_error_says_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let error = find_workspace(None, dir.path()).unwrap_err().to_string();
        assert!(error.contains("run `cargo xtask` in a checkout"), "{error}");
    }
}
