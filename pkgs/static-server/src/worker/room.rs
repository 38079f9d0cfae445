//! The choice of clients to close when there is no room: those that hold connections without
//! requesting anything.

use std::time::{Duration, Instant};

use super::clients::Clients;

/// The time for which a connection may wait for its client while new clients wait for room.
pub(super) const FAIR_WAIT: Duration = Duration::from_secs(1);

/// The most bytes of unfinished requests that a worker holds.
const HELD_BYTES_MAX: usize = 512 << 10;

/// A pause in accepting connections.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pause {
    until: Instant,
    /// The number of connections at the start of the pause; the pause ends when there are fewer.
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

/// Returns the client to close for a new client: the one that has waited longest without a whole
/// request, if that is long enough. Clients that only hold connections thus cannot keep others out.
pub(super) fn for_a_new_client(clients: &Clients, now: Instant) -> Option<usize> {
    let (since, index) = clients.longest_waiting(0)?;
    (since + FAIR_WAIT <= now).then_some(index)
}

/// Returns the client with the oldest unfinished request, if all unfinished requests together take
/// too much memory. The more unfinished requests there are, the less time each has.
pub(super) fn for_memory(clients: &Clients) -> Option<usize> {
    if clients.held() <= HELD_BYTES_MAX {
        return None;
    }
    clients.longest_waiting(1).map(|(_, index)| index)
}
