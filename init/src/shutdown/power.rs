//! The last step, and the thread that makes sure it comes.
//!
//! `reboot(2)` is reached on three ways: in order by the supervisor, at the absolute deadline by a
//! thread of its own that waits for nothing else, and after a fatal error or a bug of PID 1's.
//! Where it does not bring the machine down, sysrq does, and after that the watchdog, which nobody
//! feeds any more.

use std::fmt;
use std::fs;
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use kiln_contract::console::Event;
use rustix::process::Signal;
use rustix::system::RebootCommand;

use crate::console::kmsg;
use crate::machine::watchdog;
use crate::process::spawn::{self, Child};
use crate::shutdown::reason::{self, End};
use crate::shutdown::{signals, unmount};

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

/// From a bug or a fatal error to a forced reboot: the steps of [`emergency`] and the delay.
const EMERGENCY: Duration = Duration::from_secs(30);

/// How long processes have to end after SIGTERM when PID 1 itself failed.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// How long each helper of an emergency may take.
const HELPER: Duration = Duration::from_secs(3);

/// What the kernel's emergency sync and remount get before the forced end.
const EMERGENCY_SYNC: Duration = Duration::from_secs(2);

/// How long `reboot(2)` may take to stop the devices before sysrq is tried.
const GOING_DOWN: Duration = Duration::from_secs(5);

/// Enough for a sleep, a log line, a fork and a system call.
const STACK: usize = 64 * 1024;

/// Longest reason that a request may give, in characters.
const WHY_MAX: usize = 160;

/// Reads a request from the FIFO: a word, and after it whatever the asker gives as the reason.
#[must_use]
pub fn parse_request(line: &str) -> Option<(Power, String)> {
    let line = line.trim();
    let (word, why) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let power = match word {
        "poweroff" => Power::Off,
        "reboot" => Power::Reboot,
        "halt" => Power::Halt,
        _ => return None,
    };
    Some((power, why.trim().chars().filter(|c| !c.is_control()).take(WHY_MAX).collect()))
}

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
    if let Some(deadline) = DEADLINE.get() {
        let _ = deadline.send((Power::Reboot, EMERGENCY));
    }
    reason::ask(Power::Reboot, text);
    wait_for(reason::keep(end));
    unmount::signal_everything(Signal::TERM);
    reap_within(LAST_WORDS);
    unmount::signal_everything(Signal::KILL);
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

/// Sysrq's letter for an end that asks no driver.
const fn sysrq_letter(power: Power) -> &'static str {
    match power {
        Power::Off => "o",
        Power::Reboot | Power::Halt => "b",
    }
}

fn sysrq(letter: &str) {
    let _ = fs::write("/proc/sysrq-trigger", letter);
}

const fn command(power: Power) -> RebootCommand {
    match power {
        Power::Off => RebootCommand::PowerOff,
        Power::Reboot => RebootCommand::Restart,
        Power::Halt => RebootCommand::Halt,
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

/// What the deadline does: nothing in it can wait for a disk or for a lock of PID 1's.
///
/// The kernel syncs and remounts in threads of its own. `reboot(2)` stops every device first and
/// can hang in one, so a child calls it; sysrq follows, which asks nobody.
fn force(power: Power) -> ! {
    sysrq("s");
    sysrq("u");
    thread::sleep(EMERGENCY_SYNC);
    kmsg::event(&Event::Down { action: power.to_string() });
    let (halt, command) = (power == Power::Halt, command(power));
    let work = || {
        if halt {
            let _ = watchdog::disarm();
        }
        i32::from(rustix::system::reboot(command).is_err())
    };
    // SAFETY: the child makes system calls only.
    let child = unsafe { spawn::helper(work) };
    let _ = child.map(|child| child.wait(GOING_DOWN));
    loop {
        sysrq(sysrq_letter(power));
        thread::sleep(GOING_DOWN);
        // Power-off by sysrq is the drivers' again: a reset is better than a machine that hangs.
        sysrq("b");
    }
}

/// The deadline's thread listens here, also to a main loop that has failed.
static DEADLINE: OnceLock<Sender<(Power, Duration)>> = OnceLock::new();

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
        let _ = DEADLINE.set(sender.clone());
        Ok(Self(sender))
    }

    /// From now on the machine is down after `within`, at the latest. A later call can only
    /// shorten it.
    pub fn set(&self, power: Power, within: Duration) {
        let _ = self.0.send((power, within));
    }
}

fn keep(receiver: &Receiver<(Power, Duration)>) {
    let Ok((power, within)) = receiver.recv() else { return };
    let mut due = Instant::now() + within;
    loop {
        match receiver.recv_timeout(due.saturating_duration_since(Instant::now())) {
            Ok((_, within)) => due = due.min(Instant::now() + within),
            Err(RecvTimeoutError::Timeout) => break,
            Err(RecvTimeoutError::Disconnected) => {
                thread::sleep(due.saturating_duration_since(Instant::now()));
                break;
            }
        }
    }
    kmsg::error("shutdown took longer than its time, forced");
    let _ = reason::keep(End::Forced);
    force(power)
}

#[cfg(test)]
mod tests {
    use super::{Power, WHY_MAX, parse_request};

    #[test]
    fn only_whole_words_are_requests() {
        let power = |line| parse_request(line).map(|(power, _)| power);
        assert_eq!(power("poweroff\n"), Some(Power::Off));
        assert_eq!(power("reboot"), Some(Power::Reboot));
        assert_eq!(power("halt\n"), Some(Power::Halt));
        assert_eq!(power("power off"), None);
        assert_eq!(power(""), None);
    }

    #[test]
    fn the_rest_of_the_line_is_the_reason_and_bounded() {
        let why = |line: &str| parse_request(line).unwrap().1;
        assert_eq!(why("reboot  update to 1.2\n"), "update to 1.2");
        assert_eq!(why("reboot"), "");
        assert_eq!(why(&format!("halt {}", "ä".repeat(1000))).chars().count(), WHY_MAX);
    }
}
