//! The clients that must go when there is no room: those that hold connections and request nothing.

use std::time::{Duration, Instant};

use super::clients::Clients;

/// The time that a connection may wait for its client while others wait for a place.
pub(super) const FAIR_WAIT: Duration = Duration::from_secs(1);

/// The most bytes of unfinished requests that a worker holds.
const HELD_BYTES_MAX: usize = 512 << 10;

/// A time without new connections.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pause {
    until: Instant,
    /// The connections at its beginning; the pause ends when there are fewer.
    open: usize,
}

impl Pause {
    /// Begins a pause with this many open connections.
    pub(super) fn new(now: Instant, open: usize) -> Self {
        Self { until: now + FAIR_WAIT, open }
    }

    /// Returns the moment until which new connections wait; `None` at the end of the pause, when a
    /// connection has been closed or enough time has passed.
    pub(super) fn lasts(&self, now: Instant, open: usize) -> Option<Instant> {
        (open >= self.open && now < self.until).then_some(self.until)
    }
}

/// Returns the client that makes room for a new one, if it has waited long enough without a whole
/// request, so that clients that only hold connections cannot keep others out.
pub(super) fn for_a_new_client(clients: &Clients, now: Instant) -> Option<usize> {
    let (since, index) = clients.longest_waiting(0)?;
    (since + FAIR_WAIT <= now).then_some(index)
}

/// Returns the client that began its request longest ago, if all unfinished requests together take
/// too much memory: the more of them there are, the less time each has.
pub(super) fn for_memory(clients: &Clients) -> Option<usize> {
    if clients.held() <= HELD_BYTES_MAX {
        return None;
    }
    clients.longest_waiting(1).map(|(_, index)| index)
}
