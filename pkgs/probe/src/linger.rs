//! A pod that takes its time to stop, and says so where it can be seen after it: in the kernel log.

use std::fs;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};

/// Runs until SIGTERM.
pub(crate) fn stay(name: &str) -> Result<()> {
    let termination = kiln_daemon::signal::Termination::new()?;
    say(&format!("{name} is up"))?;
    while !termination.wait(None)? {}
    say(&format!("{name} ended"))
}

/// What the pod does before it is sent SIGTERM.
pub(crate) fn stop_slowly(name: &str, seconds: u64) -> Result<()> {
    say(&format!("{name} begins to stop"))?;
    thread::sleep(Duration::from_secs(seconds));
    say(&format!("{name} has used its {seconds} s"))
}

fn say(text: &str) -> Result<()> {
    fs::write("/dev/kmsg", format!("<13>marker: {text}\n")).context("writing to the kernel log")
}
