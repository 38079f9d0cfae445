//! Connecting to a backend: the addresses to try, their order, and the time for each.

use std::net::SocketAddr;
use std::sync::atomic::Ordering;

use crate::config::Policy;
use crate::state::{BackendState, RouteState};

/// The most addresses that are tried for one connection.
const TRIES_MAX: usize = 8;

/// Milliseconds for an address that is not the last.
const TRY_TIME: u64 = 1_000;

/// The attempts to connect to a backend.
#[derive(Debug)]
pub(super) struct Dial {
    /// Indices of backends in the route, and their addresses.
    candidates: Vec<(u16, SocketAddr)>,
    next: usize,
    /// The deadline of all tries together.
    until: u64,
    /// The deadline of the current try.
    this_until: u64,
    /// The bytes that a backend gets first: a PROXY header, and everything that the client sent.
    first: Vec<u8>,
    /// The number of bytes of `first` that the current backend has accepted.
    sent: usize,
}

impl Dial {
    /// Creates attempts without candidates.
    pub(super) const fn new(first: Vec<u8>, until: u64) -> Self {
        Self { candidates: Vec::new(), next: 0, until, this_until: until, first, sent: 0 }
    }

    /// Sets the candidates, once DNS has answered.
    pub(super) fn set_candidates(&mut self, candidates: Vec<(u16, SocketAddr)>) {
        self.candidates = candidates;
    }

    /// Begins the next try; `None` if no candidate is left.
    pub(super) fn next(&mut self, now: u64) -> Option<(u16, SocketAddr)> {
        let candidate = *self.candidates.get(self.next)?;
        self.next += 1;
        self.sent = 0;
        // The last try has all the time that is left.
        let is_last = self.next >= self.candidates.len();
        self.this_until = if is_last { self.until } else { self.until.min(now + TRY_TIME) };
        Some(candidate)
    }

    /// Returns the bytes that the backend has not accepted yet.
    pub(super) fn unsent(&self) -> &[u8] {
        &self.first[self.sent..]
    }

    /// Counts bytes that the backend has accepted.
    pub(super) const fn sent(&mut self, count: usize) {
        self.sent += count;
    }

    /// True if another candidate could get the same bytes, given that the backends so far have
    /// received `delivered` bytes of this connection.
    pub(super) const fn may_try_another(&self, delivered: u64, now: u64) -> bool {
        delivered <= self.first.len() as u64
            && self.next < self.candidates.len()
            && now < self.until
    }

    /// Returns the deadline of the current try.
    pub(super) fn deadline(&self) -> u64 {
        self.until.min(self.this_until)
    }

    /// True if there is time for another try.
    pub(super) const fn has_time(&self, now: u64) -> bool {
        self.until > now
    }
}

/// The addresses that can be tried.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// These addresses, in this order.
    Try(Vec<(u16, SocketAddr)>),
    /// DNS has not answered yet.
    Wait,
    /// The backends have no addresses.
    Nothing,
}

/// Returns the addresses of a route's backends in the order in which to try them.
///
/// The policy orders the backends; backends that are up come before those that timed out recently,
/// and backends that are down come last. If all are down, all are tried anyway.
pub(super) fn order(route: &RouteState, policy: Policy, now: u64) -> Order {
    let count = route.backends.len();
    let first = match policy {
        Policy::Ordered => 0,
        Policy::RoundRobin => route.turn.fetch_add(1, Ordering::Relaxed) % count.max(1),
    };
    let mut order: Vec<usize> = (0..count).map(|index| (first + index) % count).collect();
    order.sort_by_key(|index| rank(&route.backends[*index], now));
    let mut found = Vec::new();
    let mut waits = false;
    for index in order {
        match route.backends[index].addresses() {
            None => waits = true,
            Some(addresses) => {
                let index = u16::try_from(index).unwrap_or(u16::MAX);
                found.extend(addresses.iter().map(|address| (index, *address)));
            }
        }
    }
    found.truncate(TRIES_MAX);
    match (found.is_empty(), waits) {
        (false, _) => Order::Try(found),
        (true, true) => Order::Wait,
        (true, false) => Order::Nothing,
    }
}

fn rank(backend: &BackendState, now: u64) -> u8 {
    let suspect = backend.suspect_until.load(Ordering::Relaxed) > now;
    if backend.up.load(Ordering::Relaxed) { u8::from(suspect) } else { 2 }
}

#[cfg(test)]
mod tests {
    use super::{Order, order};
    use crate::config::{Policy, Ports, parse};
    use crate::state::{Registry, Snapshot};
    use std::sync::atomic::Ordering;

    fn snapshot(backends: &str) -> Snapshot {
        let text = format!("[[route]]\ndefault = true\nbackends = [{backends}]\n");
        Registry::default().snapshot(parse(&text, Ports::default()).unwrap(), Vec::new())
    }

    /// Returns the ports to try, in order.
    fn ports(snapshot: &Snapshot, policy: Policy) -> Vec<u16> {
        match order(&snapshot.routes[0], policy, 0) {
            Order::Try(found) => found.iter().map(|(_, address)| address.port()).collect(),
            other => panic!("{other:?}"),
        }
    }

    const THREE: &str = "\"10.0.0.1:1\", \"10.0.0.1:2\", \"10.0.0.1:3\"";

    #[test]
    fn the_policy_chooses_the_first_backend() {
        let three = snapshot(THREE);
        assert_eq!(ports(&three, Policy::Ordered), [1, 2, 3]);
        assert_eq!(ports(&three, Policy::Ordered), [1, 2, 3]);
        assert_eq!(ports(&three, Policy::RoundRobin), [1, 2, 3]);
        assert_eq!(ports(&three, Policy::RoundRobin), [2, 3, 1]);
    }

    #[test]
    fn backends_that_are_down_are_tried_last() {
        let three = snapshot(THREE);
        let backends = &three.routes[0].backends;
        backends[0].up.store(false, Ordering::Relaxed);
        backends[1].suspect_until.store(1, Ordering::Relaxed);
        assert_eq!(ports(&three, Policy::Ordered), [3, 2, 1]);
        for backend in backends {
            backend.up.store(false, Ordering::Relaxed);
        }
        assert_eq!(ports(&three, Policy::Ordered), [1, 2, 3]);
    }

    #[test]
    fn an_unresolved_name_delays_a_connection_only_if_there_is_no_other_address() {
        let both = snapshot("\"a.test:1\", \"10.0.0.1:2\"");
        assert_eq!(ports(&both, Policy::Ordered), [2]);
        let one = snapshot("\"a.test:1\"");
        assert_eq!(order(&one.routes[0], Policy::Ordered, 0), Order::Wait);
        assert!(one.routes[0].backends[0].set_addresses(Vec::new()));
        assert_eq!(order(&one.routes[0], Policy::Ordered, 0), Order::Nothing);
    }
}
