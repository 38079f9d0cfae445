//! The kernel's clock: reading it, stepping it, and steering its phase-locked loop (adjtimex(2)).

use std::io;

use rustix::time::{ClockId, clock_gettime};

use super::now;
use crate::discipline::Action;
use crate::packet::Reception;
use crate::{Nanos, SECOND};

/// The largest error that the kernel accepts, in microseconds (`NTP_PHASE_LIMIT`); above this, the
/// kernel reports the clock as unsynchronised.
const ERROR_MAX: i64 = 16_000_000;

/// Reads both clocks together.
pub(super) fn reception() -> Reception {
    let time = now();
    let clock = clock_gettime(ClockId::Realtime);
    Reception { time, clock: clock.tv_sec * SECOND + clock.tv_nsec }
}

/// Carries out a correction.
///
/// This also clears the kernel's "unsynchronised" flag, after which the kernel copies the time to the
/// hardware clock every 11 minutes.
pub(super) fn apply(action: Action) -> io::Result<()> {
    match action {
        Action::Step { offset, error } => {
            let mut step = empty();
            step.modes = libc::ADJ_SETOFFSET | libc::ADJ_NANO;
            step.time.tv_sec = offset.div_euclid(SECOND);
            step.time.tv_usec = offset.rem_euclid(SECOND); // nanoseconds, because of ADJ_NANO
            adjust(&mut step)?;
            // The loop must be started again, because a step stops it.
            steer(0, error, 2)
        }
        Action::Slew { offset, error, constant } => steer(offset, error, constant),
    }
}

/// Starts the loop with an offset and an error in nanoseconds.
fn steer(offset: Nanos, error: Nanos, constant: u8) -> io::Result<()> {
    let mut settings = empty();
    settings.modes = libc::ADJ_OFFSET
        | libc::ADJ_STATUS
        | libc::ADJ_TIMECONST
        | libc::ADJ_MAXERROR
        | libc::ADJ_ESTERROR
        | libc::ADJ_NANO;
    settings.status = libc::STA_PLL;
    settings.offset = offset;
    settings.constant = constant.into();
    settings.maxerror = (error / 1000).min(ERROR_MAX);
    settings.esterror = (offset.abs() / 1000).min(ERROR_MAX);
    adjust(&mut settings)
}

fn empty() -> libc::timex {
    // SAFETY: the structure consists of numbers, for which zero is a valid value.
    unsafe { std::mem::zeroed() }
}

fn adjust(settings: &mut libc::timex) -> io::Result<()> {
    // SAFETY: the pointer is valid for the structure during the call.
    let result = unsafe { libc::adjtimex(settings) };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
