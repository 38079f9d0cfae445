//! The last stage: `reboot(2)`.
//!
//! It is reached in three ways: the supervisor's orderly shutdown, a thread at an absolute deadline
//! ([`super::force`]), and a fatal error or a bug in PID 1. If `reboot(2)` does not bring the
//! machine down, sysrq does, and after that the watchdog, which is no longer fed.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use kiln_contract::console::Event;
use rustix::process::Signal;

use super::power::{Power, command, sysrq, sysrq_letter};
use super::reason::{self, End};
use super::{force, signals, unmount};
use crate::console::kmsg;
use crate::machine::watchdog;
use crate::process::kill;
use crate::process::spawn::Child;

/// The time between a fatal error and the reboot, for reading the console. `kernel.panic` is the
/// same.
const FATAL_DELAY: Duration = Duration::from_secs(10);

/// The time from a bug or a fatal error to a forced reboot: all of [`emergency`] and the delay.
const EMERGENCY: Duration = Duration::from_secs(30);

/// The time that processes get after SIGTERM if PID 1 itself has failed.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// The time limit for each helper of an emergency.
const HELPER: Duration = Duration::from_secs(3);

/// Reports the end of the shutdown and goes down.
pub fn down(power: Power) -> ! {
    kmsg::event(&Event::Down { action: power.to_string() });
    now(power)
}

/// Reports a fatal error, shuts down as far as possible, and reboots after [`FATAL_DELAY`].
pub fn fatal(error: &anyhow::Error) -> ! {
    let text = format!("{error:#}");
    kmsg::error(format_args!("fatal: {text}"));
    kmsg::error(format_args!("reboot in {} s", FATAL_DELAY.as_secs()));
    let begin = Instant::now();
    emergency(End::Fatal, &text);
    thread::sleep(FATAL_DELAY.saturating_sub(begin.elapsed()));
    now(Power::Reboot)
}

/// Ends a process that panicked. A helper just exits. PID 1 records the reason and reboots: a
/// thread requests this from the main loop, and a panicking main loop runs [`emergency`].
pub fn after_bug(text: &str) -> ! {
    if !rustix::process::getpid().is_init() {
        // SAFETY: _exit has no preconditions.
        unsafe { libc::_exit(101) }
    }
    if rustix::thread::gettid().is_init() {
        emergency(End::Bug, text);
        now(Power::Reboot)
    }
    reason::ask(Power::Reboot, &format!("bug: {text}"));
    // SAFETY: kill has no memory effects.
    unsafe { libc::kill(1, signals::REBOOT) };
    loop {
        thread::park();
    }
}

/// Shuts down without the main loop. Helpers do everything that can hang.
fn emergency(end: End, text: &str) {
    force::shorten(Power::Reboot, EMERGENCY);
    reason::ask(Power::Reboot, text);
    wait_for(reason::keep(end));
    kill::everything(Signal::TERM);
    reap_within(LAST_WORDS);
    kill::everything(Signal::KILL);
    reap_within(LAST_WORDS);
    wait_for(unmount::unmount());
    wait_for(unmount::sync());
}

fn wait_for(helper: Result<Child>) {
    if let Some(child) = kmsg::warn_on_error(helper) {
        let _ = child.wait(HELPER);
    }
}

/// Reaps children until no child is left or the time is up.
fn reap_within(time: Duration) {
    let begin = Instant::now();
    while begin.elapsed() < time {
        match rustix::process::wait(rustix::process::WaitOptions::NOHANG) {
            Ok(Some(_)) => {}
            Ok(None) => thread::sleep(Duration::from_millis(10)),
            Err(_) => return,
        }
    }
}

/// Calls `reboot(2)` and, if it returns, sysrq, once a second until the watchdog resets the
/// machine.
fn now(power: Power) -> ! {
    // A halted machine stays on, but its watchdog is no longer fed.
    if power == Power::Halt
        && let Err(error) = watchdog::disarm()
    {
        kmsg::error(format_args!("cannot stop the watchdog, it will reset the machine: {error}"));
    }
    loop {
        if let Err(error) = rustix::system::reboot(command(power)) {
            kmsg::error(format_args!("cannot {power} the machine: {error}"));
        }
        sysrq(sysrq_letter(power));
        thread::sleep(Duration::from_secs(1));
    }
}
