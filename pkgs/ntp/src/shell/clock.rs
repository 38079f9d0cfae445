//! The kernel's clock: reading it, stepping it, and steering its phase-locked loop (adjtimex(2)).

use std::io;

use rustix::time::{ClockId, clock_gettime};

use super::now;
use crate::discipline::Action;
use crate::packet::Reception;
use crate::{Nanos, SECOND};

/// The kernel takes no larger error (`NTP_PHASE_LIMIT`), in microseconds; above, it shows the clock
/// as unsynchronised.
const LARGEST_ERROR: i64 = 16_000_000;

/// Both clocks, read together.
pub(super) fn reception() -> Reception {
    let time = now();
    let clock = clock_gettime(ClockId::Realtime);
    Reception { time, clock: clock.tv_sec * SECOND + clock.tv_nsec }
}

/// Does what the discipline says.
///
/// Either way the kernel's "unsynchronised" flag is taken away: from then on the kernel itself
/// copies the time to the hardware clock every 11 minutes.
pub(super) fn apply(action: Action) -> io::Result<()> {
    match action {
        Action::Step { offset, error } => {
            let mut step = empty();
            step.modes = libc::ADJ_SETOFFSET | libc::ADJ_NANO;
            step.time.tv_sec = offset.div_euclid(SECOND);
            step.time.tv_usec = offset.rem_euclid(SECOND); // nanoseconds, as ADJ_NANO says
            adjust(&mut step)?;
            // A step clears the loop, so what follows starts it anew.
            steer(0, error, 2)
        }
        Action::Slew { offset, error, constant } => steer(offset, error, constant),
    }
}

/// `offset` and `error` in nanoseconds.
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
    settings.maxerror = (error / 1000).min(LARGEST_ERROR);
    settings.esterror = (offset.abs() / 1000).min(LARGEST_ERROR);
    adjust(&mut settings)
}

fn empty() -> libc::timex {
    // SAFETY: the structure consists of numbers, for which zero is a value.
    unsafe { std::mem::zeroed() }
}

fn adjust(settings: &mut libc::timex) -> io::Result<()> {
    // SAFETY: the pointer is to a whole structure that lives during the call.
    let result = unsafe { libc::adjtimex(settings) };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
