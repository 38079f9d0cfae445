//! Host processes that stop, go on, or are killed again and again.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use rustix::time::{ClockId, Timespec, clock_settime};

use crate::node;

/// How long PID 1 may take for one restart; its longest pause is shorter.
const RESTART: Duration = Duration::from_mins(3);

/// Between two looks.
const LOOK: Duration = Duration::from_millis(5);

/// Sends `stop` or `cont` to the one host process of a name.
pub(super) fn signal(signal: &str, name: &str) -> Result<String> {
    let process = node::find(name)?;
    let number = match signal {
        "stop" => Signal::STOP,
        "cont" => Signal::CONT,
        _ => bail!("there is no signal {signal} here"),
    };
    let pid = Pid::from_raw(process.pid).context("process ids are positive")?;
    kill_process(pid, number).with_context(|| format!("sending {signal} to {name}"))?;
    Ok(format!("sent {signal} to {}\n", process.pid))
}

/// Sets the node's clock, in seconds since 1970.
pub(super) fn set_clock(seconds: u32) -> Result<String> {
    let time = Timespec { tv_sec: seconds.into(), tv_nsec: 0 };
    clock_settime(ClockId::Realtime, time).context("setting the clock")?;
    Ok(format!("it is {seconds} s after 1970\n"))
}

/// Kills a host process, waits for the next of its name, kills that, `count` times in all.
pub(super) fn kill_often(name: &str, count: u32) -> Result<String> {
    let mut last = 0;
    for _ in 0..count {
        last = wait_for_other(name, last)?;
        node::kill(name)?;
    }
    wait_for_other(name, last)?;
    Ok(format!("killed {count} times, and it runs\n"))
}

/// The process of a name, as soon as it is another one than `old`.
pub(super) fn wait_for_other(name: &str, old: i32) -> Result<i32> {
    let start = Instant::now();
    while start.elapsed() < RESTART {
        match node::find(name) {
            Ok(process) if process.pid != old => return Ok(process.pid),
            _ => thread::sleep(LOOK),
        }
    }
    bail!("{name} did not come back within {} s", RESTART.as_secs())
}
