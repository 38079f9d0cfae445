//! The VM scenarios of `cargo xtask test`: data in `tests/vm`, run one after another.
//!
//! `tests/vm/NAME.toml` are the build files of the images that scenarios boot, `scenarios/` says what
//! must happen, `golden/` what the probe pod must see. A failed scenario leaves its console beside
//! the images, and never counts when it was QEMU that died (once).

mod booted;
mod data;
mod disk;
mod lan;
mod ntp;
mod page;
mod refused;
mod runner;
mod watch;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Error, Result, bail, ensure};

pub use data::{Scenario, load};

use crate::host::HostTool;
use crate::process;
use crate::progress::{Progress, Task};
use crate::qemu::LAST_LINES;
use booted::Crash;
use runner::Run;

/// Where the probe pod listens on the node.
pub const PROBE_PORT: u16 = 9090;

/// Lines of the console that a failed scenario leaves.
const CONSOLE_LINES: usize = 20_000;

/// What scenarios are run with.
#[derive(Debug, Clone)]
pub struct Rig {
    /// `qemu-system-x86_64`.
    pub qemu: HostTool,
    /// OVMF's code.
    pub firmware: PathBuf,
    /// OVMF's empty variables.
    pub variables: PathBuf,
    /// Makes the file system of data disks.
    pub mke2fs: HostTool,
    /// Where disks and consoles go.
    pub scratch: PathBuf,
    /// `tests/vm`.
    pub dir: PathBuf,
}

impl Rig {
    fn golden(&self) -> PathBuf {
        self.dir.join("golden")
    }
}

/// The scenarios of these names, or all when none is named.
pub fn choose(all: Vec<Scenario>, names: &[String]) -> Result<Vec<Scenario>> {
    for name in names {
        let known =
            || all.iter().map(|scenario| scenario.name.as_str()).collect::<Vec<_>>().join(", ");
        ensure!(
            all.iter().any(|scenario| scenario.name == *name),
            "there is no scenario `{name}`; there are {}",
            known()
        );
    }
    let wanted = |scenario: &Scenario| names.is_empty() || names.contains(&scenario.name);
    Ok(all.into_iter().filter(wanted).collect())
}

/// Builds the images that scenarios need, then runs them; an error if one failed.
///
/// `build` makes the EFI file of a build file.
pub fn run(
    rig: &Rig,
    scenarios: &[Scenario],
    progress: &Progress,
    build: impl Fn(&Path) -> Result<PathBuf>,
) -> Result<()> {
    let mut images = BTreeMap::new();
    for name in scenarios.iter().flat_map(Scenario::images) {
        if !images.contains_key(name) {
            let file = rig.dir.join(format!("{name}.toml"));
            images.insert(
                name.to_owned(),
                build(&file).with_context(|| format!("cannot build {}", file.display()))?,
            );
        }
    }
    let mut failed = 0;
    for scenario in scenarios {
        let start = Instant::now();
        let result = attempt_twice(rig, scenario, &images, progress);
        process::check_interrupt()?;
        let seconds = start.elapsed().as_secs();
        match result {
            Ok(figures) => {
                let shown = figures.iter().map(|figure| format!(", {figure}"));
                let shown: String = shown.collect();
                progress.message(&format!("PASS {} ({seconds} s{shown})", scenario.name));
            }
            Err(error) => {
                failed += 1;
                progress.message(&format!("FAIL {} ({seconds} s): {error:#}", scenario.name));
            }
        }
    }
    progress.message(&format!("{} passed, {failed} failed", scenarios.len() - failed));
    if failed > 0 {
        bail!("{failed} of {} VM scenarios failed", scenarios.len())
    }
    Ok(())
}

/// QEMU's emulator dies by itself now and then; that is said, and forgiven once.
fn attempt_twice(
    rig: &Rig,
    scenario: &Scenario,
    images: &BTreeMap<String, PathBuf>,
    progress: &Progress,
) -> Result<Vec<String>> {
    match attempt(rig, scenario, images, progress) {
        Err(error) if is_crash(&error) => {
            progress.message(&format!("{}: tried once more, since {error:#}", scenario.name));
            attempt(rig, scenario, images, progress)
        }
        result => result,
    }
}

fn is_crash(error: &Error) -> bool {
    error.downcast_ref::<Crash>().is_some()
}

fn attempt(
    rig: &Rig,
    scenario: &Scenario,
    images: &BTreeMap<String, PathBuf>,
    progress: &Progress,
) -> Result<Vec<String>> {
    let task = progress.task(&format!("vm {}", scenario.name), Some(scenario.steps.len() as u64));
    let mut run = Run::new(rig, scenario, images)?;
    let result = run.steps(|at| announce(&task, scenario, at));
    if let Err(error) = result {
        let path = rig.scratch.join(format!("{}.console", scenario.name));
        // The reason matters more than this file.
        let kept = fs::write(&path, run.console(CONSOLE_LINES)).is_ok();
        let place =
            if kept { format!(", all of them in {}", path.display()) } else { String::new() };
        let tail = run.console(LAST_LINES);
        return Err(error.context(format!(
            "{}\nlast lines of the console{place}:\n{tail}\nreason",
            scenario.about
        )));
    }
    task.done();
    Ok(run.figures)
}

fn announce(task: &Task, scenario: &Scenario, at: usize) {
    if at > 0 {
        task.advance(1);
    }
    task.note(&scenario.steps[at].to_string());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scenario(name: &str) -> Scenario {
        let text = "about = \"x\"\n[[step]]\nboot = \"b\"\n[[step]]\npower-cut = true\n";
        Scenario::parse(text, &PathBuf::from(format!("{name}.toml"))).unwrap()
    }

    #[test]
    fn scenarios_are_picked_by_name() {
        let names = |wanted: &[&str]| {
            let wanted: Vec<String> = wanted.iter().map(|name| (*name).to_owned()).collect();
            let picked = choose(vec![scenario("a"), scenario("b")], &wanted)?;
            Ok::<_, Error>(picked.into_iter().map(|scenario| scenario.name).collect::<Vec<_>>())
        };
        assert_eq!(names(&[]).unwrap(), ["a", "b"]);
        assert_eq!(names(&["b"]).unwrap(), ["b"]);
        assert!(names(&["c"]).unwrap_err().to_string().contains("no scenario `c`; there are a, b"));
    }

    #[test]
    fn a_crash_of_qemu_is_told_from_a_failure() {
        assert!(is_crash(&Error::new(Crash("x".into())).context("step 3")));
        assert!(!is_crash(&anyhow::anyhow!("x").context("step 3")));
    }
}
