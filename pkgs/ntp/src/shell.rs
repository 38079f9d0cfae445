//! The part that touches the machine: sockets, `resolv.conf`, the clock.
//!
//! One thread. A round asks all servers at once and waits for their answers a short time; between
//! rounds nothing is open.

mod arguments;
mod clock;
mod daemon;
mod exchange;
mod servers;

pub use arguments::{Arguments, Server};
pub use daemon::run;

use anyhow::Context as _;
use rustix::rand::{GetRandomFlags, getrandom};
use rustix::time::{ClockId, clock_gettime};

use crate::Time;

/// What the clock shows that [`Time`] is about.
fn now() -> Time {
    // The kernel's boot clock is never negative, and its nanoseconds are below 10^9.
    clock_gettime(ClockId::Boottime).try_into().unwrap_or_default()
}

/// A number that nobody can guess.
fn random() -> anyhow::Result<u64> {
    let mut bytes = [0; 8];
    getrandom(&mut bytes, GetRandomFlags::empty()).context("getrandom")?;
    Ok(u64::from_ne_bytes(bytes))
}
