//! The thread that brings the machine down at a deadline, whatever the main loop does.

use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use kiln_contract::console::Event;

use super::power::{Power, command, sysrq, sysrq_letter};
use super::reason::{self, End};
use crate::console::kmsg;
use crate::machine::watchdog;
use crate::process::spawn;

/// The time for the kernel's emergency sync and remount.
const EMERGENCY_SYNC: Duration = Duration::from_secs(2);

/// The time that `reboot(2)` gets to stop the devices before sysrq is tried.
const GOING_DOWN: Duration = Duration::from_secs(5);

/// The stack size of the thread, enough for a sleep, a log line, a fork and a system call.
const STACK: usize = 64 * 1024;

/// The sender to the thread, for a main loop that has failed.
static DEADLINE: OnceLock<Sender<(Power, Duration)>> = OnceLock::new();

/// A thread that brings the machine down at a deadline, whatever the main loop does.
#[derive(Debug)]
pub struct Deadline(Sender<(Power, Duration)>);

impl Deadline {
    /// Starts the thread at boot, because starting it later can fail when memory runs out.
    pub fn start() -> Result<Self> {
        let (sender, receiver) = channel();
        thread::Builder::new()
            .name("deadline".into())
            .stack_size(STACK)
            .spawn(move || keep(&receiver))
            .context("cannot start the deadline's thread")?;
        let _ = DEADLINE.set(sender.clone());
        Ok(Self(sender))
    }

    /// Sets the deadline to `within` from now. A later call can only shorten it.
    pub fn set(&self, power: Power, within: Duration) {
        let _ = self.0.send((power, within));
    }
}

/// Shortens the deadline of a main loop that has failed. Does nothing before [`Deadline::start`].
pub fn shorten(power: Power, within: Duration) {
    if let Some(deadline) = DEADLINE.get() {
        let _ = deadline.send((power, within));
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

/// Brings the machine down. Nothing here waits for a disk or for a lock of PID 1.
///
/// The kernel syncs and remounts in its own threads. `reboot(2)` stops every device first and can
/// hang, so a child calls it. Sysrq follows, which involves no driver.
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
        // Power-off by sysrq needs drivers again, so a reset follows, which is better than
        // a hung machine.
        sysrq("b");
    }
}
