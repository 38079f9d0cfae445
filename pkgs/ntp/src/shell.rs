//! The part that touches the machine: sockets, `resolv.conf`, the clock.
//!
//! There is one thread. A round queries all servers at once and waits a short time for their replies;
//! between rounds no socket is open.

mod arguments;
mod clock;
mod daemon;
mod exchange;
mod servers;

pub use arguments::{Arguments, Server};
pub use daemon::run;

use anyhow::Context as _;
use rustix::rand::{GetRandomFlags, getrandom};
use rustix::time::ClockId;

use crate::Time;

/// Reads the clock that [`Time`] is based on.
fn now() -> Time {
    kiln_base::time::now(ClockId::Boottime)
}

/// Returns an unpredictable number.
fn random() -> anyhow::Result<u64> {
    let mut bytes = [0; 8];
    getrandom(&mut bytes, GetRandomFlags::empty()).context("cannot get random bytes")?;
    Ok(u64::from_ne_bytes(bytes))
}
