//! The last step, and the thread that makes sure it comes.
//!
//! `reboot(2)` is reached on three ways: in order by the supervisor, at the absolute deadline by a
//! thread of its own that waits for nothing else, and after a fatal error.

use std::fmt;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use kiln_contract::console::Event;
use rustix::system::RebootCommand;

use crate::kmsg;

/// How a machine goes down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Power {
    /// Power off.
    Off,
    /// Start again, through the firmware.
    Reboot,
    /// Stop the processors and stay on.
    Halt,
}

impl fmt::Display for Power {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Off => "power-off",
            Self::Reboot => "reboot",
            Self::Halt => "halt",
        })
    }
}

/// How long a fatal error stays on the console before the reboot; as `kernel.panic` has it.
const FATAL_DELAY: Duration = Duration::from_secs(10);

/// Enough for a sleep, a log line and a system call.
const STACK: usize = 64 * 1024;

/// Reads a request from the FIFO: one word. Anything else is `None`.
#[must_use]
pub fn parse_request(line: &str) -> Option<Power> {
    match line.trim() {
        "poweroff" => Some(Power::Off),
        "reboot" => Some(Power::Reboot),
        "halt" => Some(Power::Halt),
        _ => None,
    }
}

/// Tells the console that all is done, and goes down.
pub fn down(power: Power) -> ! {
    kmsg::event(&Event::Down { action: power.to_string() });
    now(power)
}

/// Reports a fatal error and reboots after [`FATAL_DELAY`].
pub fn fatal(error: &anyhow::Error) -> ! {
    kmsg::error(format_args!("fatal: {error:#}"));
    after_delay()
}

/// What a panic ends in. PID 1, in any of its threads, reboots; a helper only ends itself.
pub fn after_bug() -> ! {
    if !rustix::process::getpid().is_init() {
        // SAFETY: _exit has no preconditions.
        unsafe { libc::_exit(101) }
    }
    after_delay()
}

fn after_delay() -> ! {
    kmsg::error(format_args!("reboot in {} s", FATAL_DELAY.as_secs()));
    thread::sleep(FATAL_DELAY);
    now(Power::Reboot)
}

fn now(power: Power) -> ! {
    let command = match power {
        Power::Off => RebootCommand::PowerOff,
        Power::Reboot => RebootCommand::Restart,
        Power::Halt => RebootCommand::Halt,
    };
    loop {
        if let Err(error) = rustix::system::reboot(command) {
            kmsg::error(format_args!("reboot(2): {error}"));
        }
        // It does not return on a real machine. Emergency restart by sysrq is what is left.
        let _ = std::fs::write("/proc/sysrq-trigger", if power == Power::Off { "o" } else { "b" });
        thread::sleep(Duration::from_secs(1));
    }
}

/// A thread that brings the machine down at a time, whatever the main loop does.
#[derive(Debug)]
pub struct Deadline(Sender<(Power, Duration)>);

impl Deadline {
    /// Starts the thread at boot, since starting one may fail later when memory is out.
    pub fn start() -> Result<Self> {
        let (sender, receiver) = channel();
        thread::Builder::new()
            .name("deadline".into())
            .stack_size(STACK)
            .spawn(move || keep(&receiver))
            .context("start the deadline's thread")?;
        Ok(Self(sender))
    }

    /// From now on the machine is down after `within`, at the latest.
    pub fn set(&self, power: Power, within: Duration) {
        let _ = self.0.send((power, within));
    }
}

fn keep(receiver: &Receiver<(Power, Duration)>) {
    if let Ok((power, within)) = receiver.recv() {
        thread::sleep(within);
        kmsg::error(format_args!("shutdown took longer than {} s, forced", within.as_secs()));
        down(power)
    }
}

#[cfg(test)]
mod tests {
    use super::{Power, parse_request};

    #[test]
    fn only_whole_words_are_requests() {
        assert_eq!(parse_request("poweroff\n"), Some(Power::Off));
        assert_eq!(parse_request("reboot"), Some(Power::Reboot));
        assert_eq!(parse_request("halt\n"), Some(Power::Halt));
        assert_eq!(parse_request("power off"), None);
        assert_eq!(parse_request(""), None);
    }
}
