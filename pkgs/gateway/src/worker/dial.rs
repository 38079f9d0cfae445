//! The way to a backend: which ones are tried, in which order, for how long.

use std::net::SocketAddr;
use std::sync::atomic::Ordering;

use crate::config::Policy;
use crate::state::{BackendState, RouteState};

/// Most addresses that are tried for one connection.
const MOST_TRIES: usize = 8;

/// Milliseconds for one address while there are others.
const TRY_TIME: u64 = 1_000;

/// Milliseconds for which a backend that did not answer comes last.
pub(super) const SUSPECT_TIME: u64 = 5_000;

/// A connection's way to a backend.
#[derive(Debug)]
pub(super) struct Dial {
    /// Backends of the route by their index, and their addresses.
    pub(super) candidates: Vec<(u16, SocketAddr)>,
    pub(super) next: usize,
    /// The end of all tries together.
    pub(super) until: u64,
    /// The end of this one.
    pub(super) this_until: u64,
    /// What the backend gets first: a PROXY header, and all that the client sent.
    pub(super) first: Vec<u8>,
    /// How much of that is sent.
    pub(super) sent: usize,
}

impl Dial {
    pub(super) fn deadline(&self) -> u64 {
        self.until.min(self.this_until)
    }

    /// Time for the next try: some is left for the ones after it.
    pub(super) fn try_until(&self, now: u64) -> u64 {
        let is_last = self.next >= self.candidates.len();
        if is_last { self.until } else { self.until.min(now + TRY_TIME) }
    }
}

/// What can be tried.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// These, in this order.
    Try(Vec<(u16, SocketAddr)>),
    /// Nothing yet: DNS has not answered.
    Wait,
    /// There is no address at all.
    Nothing,
}

/// The backends of a route in the order in which they are tried: by policy, those that are up
/// before those that did not answer lately before those that are down. If all are down, all are
/// tried anyway.
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
    found.truncate(MOST_TRIES);
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

    /// The ports that are tried.
    fn ports(snapshot: &Snapshot, policy: Policy) -> Vec<u16> {
        match order(&snapshot.routes[0], policy, 0) {
            Order::Try(found) => found.iter().map(|(_, address)| address.port()).collect(),
            other => panic!("{other:?}"),
        }
    }

    const THREE: &str = "\"10.0.0.1:1\", \"10.0.0.1:2\", \"10.0.0.1:3\"";

    #[test]
    fn policy_says_who_is_first() {
        let three = snapshot(THREE);
        assert_eq!(ports(&three, Policy::Ordered), [1, 2, 3]);
        assert_eq!(ports(&three, Policy::Ordered), [1, 2, 3]);
        assert_eq!(ports(&three, Policy::RoundRobin), [1, 2, 3]);
        assert_eq!(ports(&three, Policy::RoundRobin), [2, 3, 1]);
    }

    #[test]
    fn those_that_are_down_come_last_and_are_tried_anyway() {
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
    fn a_name_without_an_answer_is_waited_for_only_if_nothing_else_is_there() {
        let both = snapshot("\"a.test:1\", \"10.0.0.1:2\"");
        assert_eq!(ports(&both, Policy::Ordered), [2]);
        let one = snapshot("\"a.test:1\"");
        assert_eq!(order(&one.routes[0], Policy::Ordered, 0), Order::Wait);
        assert!(one.routes[0].backends[0].set_addresses(Vec::new()));
        assert_eq!(order(&one.routes[0], Policy::Ordered, 0), Order::Nothing);
    }
}
