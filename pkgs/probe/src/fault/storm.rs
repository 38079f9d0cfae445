//! Ten thousand orphans for PID 1 to reap, and a restart in the middle of them.
//!
//! A pod's orphans go to its shim, which is a subreaper. Only orphans of a host service go to PID 1. An
//! impostor ([`super::impostor`]) therefore makes them, and writes their number to a file.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, WaitOptions, waitpid};

use super::process::wait_for_other;
use super::service::FOLDER;
use crate::node::{self, ROOT};

/// The number of all orphans.
const ORPHANS: u32 = 10_000;

/// The number of orphans of one parent.
const LITTER: u32 = 100;

/// The number of orphans from which the storm counts as raging.
const RAGING: u32 = 500;

/// The longest time until the storm is raging.
const RISE_TIME_MAX: Duration = Duration::from_mins(3);

/// Makes the orphans: each parent exits without waiting for its children.
pub(super) fn raise() -> Result<()> {
    for count in (LITTER..=ORPHANS).step_by(LITTER as usize) {
        match fork()? {
            Some(parent) => drop(waitpid(Some(parent), WaitOptions::empty())?),
            None => litter(),
        }
        fs::write(format!("{FOLDER}/orphans"), count.to_string())
            .context("cannot write the number of orphans")?;
    }
    Ok(())
}

fn litter() -> ! {
    for _ in 0..LITTER {
        if matches!(fork(), Ok(None)) {
            break;
        }
    }
    // SAFETY: _exit has no preconditions.
    unsafe { libc::_exit(0) }
}

/// Calls fork(2); returns `None` in the child.
fn fork() -> Result<Option<Pid>> {
    // SAFETY: an impostor has one thread, and its children make system calls only.
    let pid = unsafe { libc::fork() };
    ensure!(pid >= 0, "cannot fork: {}", std::io::Error::last_os_error());
    Ok(Pid::from_raw(pid))
}

/// Kills a host service while the storm rages, and waits until it runs again.
pub(super) fn kill_in_storm(name: &str) -> Result<String> {
    let start = Instant::now();
    while orphans() < RAGING {
        ensure!(start.elapsed() < RISE_TIME_MAX, "there is no storm");
        thread::sleep(Duration::from_millis(5));
    }
    let old = node::find(name)?.pid;
    node::kill(name)?;
    wait_for_other(name, old)?;
    match orphans() {
        ORPHANS.. => bail!("the storm ended before {name} ran"),
        count => Ok(format!("{name} runs again after {count} orphans\n")),
    }
}

fn orphans() -> u32 {
    let text = fs::read_to_string(format!("{ROOT}{FOLDER}/orphans")).unwrap_or_default();
    text.trim().parse().unwrap_or(0)
}
