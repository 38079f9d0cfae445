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
mod select;
mod watch;

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use anyhow::{Error, Result};

pub use data::{Scenario, load};
pub use select::{Selection, Shard, select};

use crate::host::HostTool;
use crate::progress::{Progress, Task};
use crate::qemu::{Kernel, LAST_LINES};
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

/// A finished image.
#[derive(Debug, Clone)]
pub struct Image {
    /// The file that firmware starts.
    pub efi: PathBuf,
    /// Its parts, which QEMU starts for scenarios with `firmware = false`.
    pub kernel: Kernel,
}

/// The finished images that scenarios boot, by the names that their `boot` steps use.
pub type Images = BTreeMap<String, Image>;

/// Runs one scenario and returns the figures that it measured.
///
/// QEMU's emulator sometimes dies by itself; this is reported, and the scenario is tried once more.
pub fn run(
    rig: &Rig,
    scenario: &Scenario,
    images: &Images,
    progress: &Progress,
) -> Result<Vec<String>> {
    match attempt(rig, scenario, images, progress) {
        Err(error) if is_crash(&error) => {
            progress.message(&format!("{}: tried once more because {error:#}", scenario.name));
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
    images: &Images,
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

    #[test]
    fn a_crash_of_qemu_is_told_from_a_failure() {
        assert!(is_crash(&Error::new(Crash("x".into())).context("step 3")));
        assert!(!is_crash(&anyhow::anyhow!("x").context("step 3")));
    }
}
