//! A pod that stops slowly and reports this in the kernel log, which outlives the pod.

use std::fs;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};

/// Runs until SIGTERM.
pub(crate) fn stay(name: &str) -> Result<()> {
    let termination = kiln_daemon::signal::Termination::new()?;
    report(&format!("{name} is up"))?;
    while !termination.wait(None)? {}
    report(&format!("{name} ended"))
}

/// The pod's hook before SIGTERM.
pub(crate) fn stop_slowly(name: &str, seconds: u64) -> Result<()> {
    report(&format!("{name} begins to stop"))?;
    thread::sleep(Duration::from_secs(seconds));
    report(&format!("{name} has used its {seconds} s"))
}

fn report(text: &str) -> Result<()> {
    fs::write("/dev/kmsg", format!("<13>marker: {text}\n"))
        .context("cannot write to the kernel log")
}
