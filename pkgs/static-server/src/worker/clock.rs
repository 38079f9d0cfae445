//! The time of one turn of the loop.
//!
//! The time comes from the kernel's coarse clocks, which cost a few nanoseconds and are accurate to
//! a tick (1 to 10 ms). That is enough for timeouts, and the worker measures nothing else.

use std::time::{Duration, Instant};

use kiln_base::time::now;
use rustix::fd::OwnedFd;
use rustix::net::SocketAddrAny;
use rustix::time::ClockId;

use crate::date::http_date;

/// The time of one turn of the loop.
#[derive(Debug)]
pub(super) struct Clock {
    pub(super) now: Instant,
    /// One moment on both clocks.
    start: (Instant, Duration),
    /// Seconds since 1970.
    pub(super) posix: u64,
    /// The value of a `Date` field.
    pub(super) date: String,
}

impl Clock {
    pub(super) fn new() -> Self {
        let start = (Instant::now(), now(ClockId::MonotonicCoarse));
        let mut clock = Self { now: start.0, start, posix: 0, date: http_date(0) };
        clock.update();
        clock
    }

    pub(super) fn update(&mut self) {
        let (instant, coarse_start) = self.start;
        self.now = instant + now(ClockId::MonotonicCoarse).saturating_sub(coarse_start);
        let posix = now(ClockId::RealtimeCoarse).as_secs();
        if posix != self.posix {
            self.posix = posix;
            self.date = http_date(posix);
        }
    }
}

/// Returns a client's address for the log; empty for a client without an address.
pub(super) fn peer(socket: &OwnedFd) -> String {
    let address: Option<SocketAddrAny> = rustix::net::getpeername(socket).ok().flatten();
    let address = address.and_then(|address| std::net::SocketAddr::try_from(address).ok());
    address.map(|address| address.to_string()).unwrap_or_default()
}
