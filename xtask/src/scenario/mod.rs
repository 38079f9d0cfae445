//! The VM scenarios of `cargo xtask test`, which are data in `tests/vm`.
//!
//! `tests/vm/NAME.toml` are the build files of the images that scenarios boot, `scenarios/` holds the
//! scenarios, and `golden/` the pages that the probe pod must show. A failed scenario leaves its
//! console in a file next to the images.

mod booted;
mod clock;
mod data;
mod disk;
mod disks;
mod handed;
mod instruction;
mod joint;
mod lan;
mod nfs;
mod ntp;
mod page;
mod refused;
mod rig;
mod runner;
mod select;
mod watch;

use std::fs;

use anyhow::{Error, Result};

pub use data::{Scenario, load};
pub use disks::Tools as DiskTools;
pub use rig::{Image, Images, Rig};
pub use select::{Selection, Shard, select};

use crate::progress::{Progress, Task};
use crate::qemu::LAST_LINES;
use booted::Crash;
use runner::Run;

/// Runs one scenario and returns the figures that it measured.
///
/// QEMU's emulator sometimes crashes. This is reported, and the scenario runs once more.
pub fn run(
    rig: &Rig,
    scenario: &Scenario,
    images: &Images,
    progress: &Progress,
) -> Result<Vec<String>> {
    match attempt(rig, scenario, images, progress) {
        Err(error) if is_crash(&error) => {
            progress.message(&format!("{}: runs once more: {error:#}", scenario.name));
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
    let total = scenario.instructions.len() as u64;
    let task = progress.task(&format!("vm {}", scenario.name), Some(total));
    let mut run = Run::new(rig, scenario, images, progress)?;
    let result = run.follow(|at| announce(&task, scenario, at));
    if let Err(error) = result {
        return Err(error.context(explain(rig, scenario, &run)));
    }
    task.done();
    Ok(run.figures)
}

fn announce(task: &Task, scenario: &Scenario, at: usize) {
    if at > 0 {
        task.advance(1);
    }
    task.note(&scenario.instructions[at].to_string());
}

/// Writes the console of a failed scenario to a file and returns the context of the error.
fn explain(rig: &Rig, scenario: &Scenario, run: &Run<'_>) -> String {
    run.keep_logs(&rig.scratch.join(format!("{}.logs", scenario.name)));
    let path = rig.scratch.join(format!("{}.console", scenario.name));
    // The error matters more than this file.
    let written = fs::write(&path, run.console(runner::CONSOLE_LINES_MAX)).is_ok();
    let place = if written { format!(", all of it in {}", path.display()) } else { String::new() };
    let tail = run.console(LAST_LINES);
    format!("{}\nthe end of the console{place}:\n{tail}\nreason", scenario.about)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_crash_of_qemu_is_retried() {
        assert!(is_crash(&Error::new(Crash("x".into())).context("instruction 3")));
        assert!(!is_crash(&anyhow::anyhow!("x").context("instruction 3")));
    }
}
