//! Host processes that are stopped, continued or killed again and again, and the clock.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use rustix::time::{ClockId, Timespec, clock_settime};

use crate::node;

/// The longest time for one restart; PID 1's longest pause is shorter.
const RESTART_TIME_MAX: Duration = Duration::from_mins(3);

/// The pause between two checks.
const LOOK: Duration = Duration::from_millis(5);

/// Sends `stop` or `cont` to the one host process with this name.
pub(super) fn signal(signal: &str, name: &str) -> Result<String> {
    let process = node::find(name)?;
    let number = match signal {
        "stop" => Signal::STOP,
        "cont" => Signal::CONT,
        _ => bail!("there is no signal {signal} here"),
    };
    let pid = Pid::from_raw(process.pid).context("process ids are positive")?;
    kill_process(pid, number).with_context(|| format!("cannot send {signal} to {name}"))?;
    Ok(format!("sent {signal} to {}\n", process.pid))
}

/// Sets the node's clock, in seconds since 1970.
pub(super) fn set_clock(seconds: u32) -> Result<String> {
    let time = Timespec { tv_sec: seconds.into(), tv_nsec: 0 };
    clock_settime(ClockId::Realtime, time).context("cannot set the clock")?;
    Ok(format!("it is {seconds} s after 1970\n"))
}

/// Kills a host process and waits for the next one with its name, `count` times.
pub(super) fn kill_often(name: &str, count: u32) -> Result<String> {
    let mut last = 0;
    for _ in 0..count {
        last = wait_for_other(name, last)?;
        node::kill(name)?;
    }
    wait_for_other(name, last)?;
    Ok(format!("killed {count} times, and it runs\n"))
}

/// Waits for a process with this name that is not `old`, and returns its ID.
pub(super) fn wait_for_other(name: &str, old: i32) -> Result<i32> {
    let start = Instant::now();
    while start.elapsed() < RESTART_TIME_MAX {
        match node::find(name) {
            Ok(process) if process.pid != old => return Ok(process.pid),
            _ => thread::sleep(LOOK),
        }
    }
    bail!("{name} did not restart within {} s", RESTART_TIME_MAX.as_secs())
}
