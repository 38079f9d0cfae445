//! The last step: `reboot(2)`.
//!
//! It is reached on three ways: in order by the supervisor, at the absolute deadline by a
//! thread of its own that waits for nothing else ([`super::force`]), and after a fatal error or a bug of PID 1's.
//! Where it does not bring the machine down, sysrq does, and after that the watchdog, which nobody
//! feeds any more.

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

/// How long a fatal error stays on the console before the reboot; as `kernel.panic` has it.
const FATAL_DELAY: Duration = Duration::from_secs(10);

/// From a bug or a fatal error to a forced reboot: the steps of [`emergency`] and the delay.
const EMERGENCY: Duration = Duration::from_secs(30);

/// How long processes have to end after SIGTERM when PID 1 itself failed.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// How long each helper of an emergency may take.
const HELPER: Duration = Duration::from_secs(3);

/// Tells the console that all is done, and goes down.
pub fn down(power: Power) -> ! {
    kmsg::event(&Event::Down { action: power.to_string() });
    now(power)
}

/// Reports a fatal error, stops what there is in what order there is, and reboots after [`FATAL_DELAY`].
pub fn fatal(error: &anyhow::Error) -> ! {
    let text = format!("{error:#}");
    kmsg::error(format_args!("fatal: {text}"));
    kmsg::error(format_args!("reboot in {} s", FATAL_DELAY.as_secs()));
    let begin = Instant::now();
    emergency(End::Fatal, &text);
    thread::sleep(FATAL_DELAY.saturating_sub(begin.elapsed()));
    now(Power::Reboot)
}

/// What a panic ends in. A helper only ends itself. PID 1 reboots, with the reason kept: from a
/// thread by asking the main loop as anybody would, from the main loop as orderly as still can be.
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

/// All of a shutdown that can be had when PID 1's main loop is no more. Each step is a helper's.
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

/// Reaps until no child is left, or the time is over.
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

/// `reboot(2)`, and if that returns, sysrq, once a second until the watchdog bites.
fn now(power: Power) -> ! {
    // A machine that halts stays as it is, and nothing feeds its watchdog.
    if power == Power::Halt
        && let Err(error) = watchdog::disarm()
    {
        kmsg::error(format_args!("the watchdog goes on and will reset the machine: {error}"));
    }
    loop {
        if let Err(error) = rustix::system::reboot(command(power)) {
            kmsg::error(format_args!("reboot(2): {error}"));
        }
        sysrq(sysrq_letter(power));
        thread::sleep(Duration::from_secs(1));
    }
}
