//! Requests for a shutdown, each made in a different way.

use std::fs;
use std::os::unix::process::ExitStatusExt;

use anyhow::{Context, Result, bail, ensure};
use kiln_contract::path;

use crate::node::ROOT;
use crate::own;

/// The file with the kernel's program for core dumps (core(5)).
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
    ensure!(sent == 0, "cannot send the signal: {}", std::io::Error::last_os_error());
    Ok(format!("sent signal {number}\n"))
}

/// Makes the kernel execute its program for a power-off, as it does when a machine overheats. A process
/// that crashes makes the kernel execute any program in the same way (`kernel/umh.c`).
pub(super) fn by_kernel() -> Result<String> {
    let old = fs::read_to_string(CORE_PATTERN).context(CORE_PATTERN)?;
    fs::write(CORE_PATTERN, format!("|{POWER_OFF}")).context(CORE_PATTERN)?;
    let status =
        own::command(&["crash"]).status().context("cannot start the process that crashes")?;
    fs::write(CORE_PATTERN, old).context(CORE_PATTERN)?;
    ensure!(status.signal() == Some(libc::SIGABRT), "the process did not crash: {status}");
    ensure!(status.core_dumped(), "the kernel executed nothing");
    Ok(format!("the kernel executed {POWER_OFF}\n"))
}
