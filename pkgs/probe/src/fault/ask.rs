//! Requests for a shutdown, each on its own way.

use std::fs;
use std::os::unix::process::ExitStatusExt;

use anyhow::{Context, Result, bail, ensure};
use kiln_contract::path;

use crate::node::ROOT;
use crate::own;

/// Where the kernel reads what to do with the core of a process that crashes (core(5)).
const CORE_PATTERN: &str = "/proc/sys/kernel/core_pattern";

/// The program that the kernel calls for an orderly power-off (`kernel.poweroff_cmd`).
const POWER_OFF: &str = "/sbin/poweroff";

/// Writes a request to PID 1's FIFO.
pub(super) fn through_fifo(word: &str) -> Result<String> {
    let fifo = format!("{ROOT}{}", path::POWER_REQUEST);
    fs::write(&fifo, format!("{word} asked by a test\n")).with_context(|| fifo.clone())?;
    Ok(format!("asked for {word}\n"))
}

/// Sends PID 1 a signal by its name.
pub(super) fn by_signal(name: &str) -> Result<String> {
    let number = match name {
        "pwr" => libc::SIGPWR,
        "term" => libc::SIGTERM,
        "rtmin+4" => libc::SIGRTMIN() + 4,
        "rtmin+5" => libc::SIGRTMIN() + 5,
        _ => bail!("there is no signal {name} here"),
    };
    // SAFETY: kill has no memory effects.
    let sent = unsafe { libc::kill(1, number) };
    ensure!(sent == 0, "kill: {}", std::io::Error::last_os_error());
    Ok(format!("sent signal {number}\n"))
}

/// Has the kernel itself call the program for a power-off. What makes it do so for good is a machine that
/// overheats; a process that crashes makes it call any program the same way (`kernel/umh.c`).
pub(super) fn by_kernel() -> Result<String> {
    let old = fs::read_to_string(CORE_PATTERN).context(CORE_PATTERN)?;
    fs::write(CORE_PATTERN, format!("|{POWER_OFF}")).context(CORE_PATTERN)?;
    let status = own::command(&["crash"]).status().context("starting what crashes")?;
    fs::write(CORE_PATTERN, old).context(CORE_PATTERN)?;
    ensure!(status.signal() == Some(libc::SIGABRT), "it did not crash: {status}");
    ensure!(status.core_dumped(), "the kernel called nobody");
    Ok(format!("the kernel called {POWER_OFF}\n"))
}
