//! The time of one turn of the loop.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use rustix::fd::OwnedFd;
use rustix::net::SocketAddrAny;

use crate::date::http_date;

/// The time of one turn of the loop.
#[derive(Debug)]
pub(super) struct Clock {
    pub(super) now: Instant,
    posix: u64,
    /// The value of a `Date` field.
    pub(super) date: String,
}

impl Clock {
    pub(super) fn new() -> Self {
        let mut clock = Self { now: Instant::now(), posix: 0, date: http_date(0) };
        clock.update();
        clock
    }

    pub(super) fn update(&mut self) {
        self.now = Instant::now();
        let posix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        if posix != self.posix {
            self.posix = posix;
            self.date = http_date(posix);
        }
    }
}

/// A client's address as the log has it; empty for one that has none.
pub(super) fn peer(socket: &OwnedFd) -> String {
    let address: Option<SocketAddrAny> = rustix::net::getpeername(socket).ok().flatten();
    let address = address.and_then(|address| std::net::SocketAddr::try_from(address).ok());
    address.map(|address| address.to_string()).unwrap_or_default()
}
