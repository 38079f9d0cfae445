//! Connecting to a backend: the addresses to try, their order, and the time for each.
//!
//! Attempts are staggered as in RFC 8305 section 5: the next begins before the last has failed, and
//! the first that succeeds wins. Dead addresses, which answer nothing, therefore do not use up the
//! time, however many there are.

use std::sync::atomic::Ordering;

use rustix::event::epoll::EventFlags;

use super::socket::Socket;
use crate::config::Policy;
use crate::state::{Address, BackendState, RouteState};

/// The most addresses that are tried for one connection.
const TRIES_MAX: usize = 256;

/// The longest and the shortest time in milliseconds from one attempt to the next (RFC 8305 section
/// 8). Many addresses share the time that is left.
const DELAY_MAX: u64 = 250;
const DELAY_MIN: u64 = 10;

/// The most earlier attempts that are still waited for. Each has a descriptor.
const TRIALS_MAX: usize = 8;

/// An address to try: the index of its backend in the route, and the address.
#[derive(Debug, Clone)]
pub(super) struct Candidate {
    pub(super) target: u16,
    pub(super) address: Address,
}

/// An earlier attempt that has not failed yet.
#[derive(Debug)]
struct Trial {
    candidate: Candidate,
    socket: Socket,
}

/// The attempts to connect to a backend.
#[derive(Debug)]
pub(super) struct Dial {
    candidates: Vec<Candidate>,
    next: usize,
    /// The latest attempt, whose socket belongs to the link.
    current: Option<Candidate>,
    /// The attempts before it, the oldest first.
    trials: Vec<Trial>,
    /// The deadline of all attempts together.
    until: u64,
    /// The moment at which the next attempt begins.
    next_at: u64,
    /// The bytes that a backend gets first: a PROXY header, and everything that the client sent.
    first: Vec<u8>,
    /// The number of bytes of `first` that the current backend has accepted.
    sent: usize,
}

impl Dial {
    /// Creates attempts without candidates.
    pub(super) const fn new(first: Vec<u8>, until: u64) -> Self {
        Self {
            candidates: Vec::new(),
            next: 0,
            current: None,
            trials: Vec::new(),
            until,
            next_at: until,
            first,
            sent: 0,
        }
    }

    /// Sets the candidates, once DNS has answered.
    pub(super) fn set_candidates(&mut self, candidates: Vec<Candidate>) {
        self.candidates = candidates;
    }

    /// Begins the next attempt; `None` if no candidate is left.
    pub(super) fn next(&mut self, now: u64) -> Option<Candidate> {
        self.sent = 0;
        self.current = self.candidates.get(self.next).cloned();
        let left = self.candidates.len().saturating_sub(self.next + 1);
        self.next += usize::from(self.current.is_some());
        let share = self.until.saturating_sub(now) / (left as u64 + 1);
        self.next_at = match left {
            0 => self.until,
            _ => now + share.clamp(DELAY_MIN, DELAY_MAX),
        };
        self.current.clone()
    }

    /// Keeps waiting for the latest attempt while others begin. If too many wait, the oldest one is
    /// given up.
    pub(super) fn set_aside(&mut self, socket: Socket, now: u64) {
        let Some(candidate) = self.current.take() else { return };
        if self.trials.len() == TRIALS_MAX {
            self.trials.remove(0).candidate.address.failed(now);
        }
        self.trials.push(Trial { candidate, socket });
    }

    /// True while an earlier attempt may still succeed.
    pub(super) const fn has_trials(&self) -> bool {
        !self.trials.is_empty()
    }

    /// Records an event of one of the earlier attempts: all are tested.
    pub(super) fn event(&mut self) {
        for trial in &mut self.trials {
            trial.socket.event(EventFlags::OUT);
        }
    }

    /// Sends the first bytes to the first earlier attempt that is connected, and returns its socket
    /// with its backend and the number of bytes sent.
    pub(super) fn connected_trial(&mut self, now: u64) -> Option<(Socket, u16, usize)> {
        let mut index = 0;
        while let Some(trial) = self.trials.get_mut(index) {
            match trial.socket.send_first(&self.first) {
                Ok(Some(count)) => {
                    let Trial { candidate, socket } = self.trials.remove(index);
                    self.sent = count;
                    // The latest attempt has lost, but had little time.
                    self.current = Some(candidate.clone());
                    return Some((socket, candidate.target, count));
                }
                Ok(None) => index += 1,
                Err(_) => self.trials.remove(index).candidate.address.failed(now),
            }
        }
        None
    }

    /// Remembers that the latest attempt failed.
    pub(super) fn failed(&mut self, now: u64) {
        if let Some(current) = self.current.take() {
            current.address.failed(now);
        }
    }

    /// Remembers that the latest attempt succeeded, and gives up the others, which had more time.
    pub(super) fn worked(&mut self, now: u64) {
        self.current.iter().for_each(|current| current.address.worked());
        self.give_up(now);
    }

    /// Gives up the earlier attempts.
    pub(super) fn give_up(&mut self, now: u64) {
        for trial in self.trials.drain(..) {
            trial.candidate.address.failed(now);
        }
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

    /// Returns the moment at which the next attempt begins, or all attempts end.
    pub(super) fn deadline(&self) -> u64 {
        self.until.min(self.next_at)
    }

    /// True if there is time for another try.
    pub(super) const fn has_time(&self, now: u64) -> bool {
        self.until > now
    }
}

/// The addresses that can be tried.
#[derive(Debug)]
pub(super) enum Order {
    /// These addresses, in this order.
    Try(Vec<Candidate>),
    /// DNS has not answered yet.
    Wait,
    /// The backends have no addresses.
    Nothing,
}

/// Returns the addresses of a route's backends in the order in which to try them.
///
/// The policy orders the backends, and `round-robin` also the addresses of each. Addresses that
/// failed recently come after all others, and backends that are down come last. If all are down, all
/// are tried anyway.
pub(super) fn order(route: &RouteState, policy: Policy, now: u64) -> Order {
    let count = route.backends.len();
    let turn = match policy {
        Policy::Ordered => 0,
        Policy::RoundRobin => route.turn.fetch_add(1, Ordering::Relaxed),
    };
    let mut found = Vec::new();
    let mut waits = false;
    for index in (0..count).map(|index| (turn + index) % count) {
        let backend = &route.backends[index];
        let Some(addresses) = backend.addresses() else {
            waits = true;
            continue;
        };
        let target = u16::try_from(index).unwrap_or(u16::MAX);
        let (before, after) = addresses.split_at((turn / count) % addresses.len().max(1));
        for address in after.iter().chain(before) {
            let candidate = Candidate { target, address: address.clone() };
            found.push((rank(backend, address, now), candidate));
        }
    }
    // Stable, so that the policy's order stays within each rank.
    found.sort_by_key(|(rank, _)| *rank);
    let found: Vec<Candidate> =
        found.into_iter().take(TRIES_MAX).map(|(_, candidate)| candidate).collect();
    match (found.is_empty(), waits) {
        (false, _) => Order::Try(found),
        (true, true) => Order::Wait,
        (true, false) => Order::Nothing,
    }
}

fn rank(backend: &BackendState, address: &Address, now: u64) -> u8 {
    if backend.up.load(Ordering::Relaxed) { u8::from(address.is_suspect(now)) } else { 2 }
}

#[cfg(test)]
mod tests {
    use super::{DELAY_MAX, Dial, Order, order};
    use crate::config::{Policy, Ports, parse};
    use crate::state::{Registry, Snapshot};
    use std::net::SocketAddr;
    use std::sync::atomic::Ordering;

    fn snapshot(backends: &str) -> Snapshot {
        let text = format!("[[route]]\ndefault = true\nbackends = [{backends}]\n");
        Registry::default().snapshot(parse(&text, Ports::default()).unwrap(), Vec::new())
    }

    /// Returns the ports to try, in order.
    fn ports(snapshot: &Snapshot, policy: Policy) -> Vec<u16> {
        match order(&snapshot.routes[0], policy, 0) {
            Order::Try(found) => found.iter().map(|one| one.address.socket.port()).collect(),
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
        backends[1].addresses().unwrap()[0].failed(0);
        assert_eq!(ports(&three, Policy::Ordered), [3, 2, 1]);
        for backend in backends {
            backend.up.store(false, Ordering::Relaxed);
        }
        assert_eq!(ports(&three, Policy::Ordered), [1, 2, 3]);
    }

    /// A route to a name with this many addresses, and another backend.
    fn named(addresses: u8) -> Snapshot {
        let both = snapshot("\"a.test:1\", \"10.0.0.9:99\"");
        let address = |last| SocketAddr::from(([10, 0, 0, last], u16::from(last)));
        let all: Vec<SocketAddr> = (1..=addresses).map(address).collect();
        both.routes[0].backends[0].set_addresses(&all);
        both
    }

    #[test]
    fn an_address_that_failed_is_tried_after_the_others_until_it_works() {
        let both = named(3);
        let address = |index: usize| both.routes[0].backends[0].addresses().unwrap()[index].clone();
        address(0).failed(0);
        assert_eq!(ports(&both, Policy::Ordered), [2, 3, 99, 1]);
        address(0).failed(0);
        assert!(address(0).is_suspect(9_999) && !address(0).is_suspect(10_000));
        // A result of DNS with the same address in another place does not forget the failure.
        let (one, two) = (address(0).socket, address(1).socket);
        assert!(both.routes[0].backends[0].set_addresses(&[two, one]));
        assert_eq!(ports(&both, Policy::Ordered), [2, 99, 1]);
        address(1).worked();
        assert_eq!(ports(&both, Policy::Ordered), [2, 1, 99]);
    }

    #[test]
    fn round_robin_uses_each_address_of_a_name() {
        let both = named(3);
        let first: Vec<u16> = (0..6).map(|_| ports(&both, Policy::RoundRobin)[0]).collect();
        assert_eq!(first, [1, 99, 2, 99, 3, 99]);
    }

    #[test]
    fn many_addresses_share_the_time() {
        for (count, delay) in [(2, DELAY_MAX), (29, 100), (255, 11)] {
            let route = named(count);
            let Order::Try(candidates) = order(&route.routes[0], Policy::Ordered, 0) else {
                panic!("no candidates")
            };
            let mut dial = Dial::new(Vec::new(), 3_000);
            dial.set_candidates(candidates);
            assert!(dial.next(0).is_some());
            assert_eq!(dial.deadline(), delay, "{count}");
            // With the first failed at once, the last has all the time that is left.
            while dial.next(0).is_some() {}
            assert_eq!(dial.deadline(), 3_000);
        }
    }

    #[test]
    fn an_unresolved_name_delays_a_connection_only_if_there_is_no_other_address() {
        let both = snapshot("\"a.test:1\", \"10.0.0.1:2\"");
        assert_eq!(ports(&both, Policy::Ordered), [2]);
        let one = snapshot("\"a.test:1\"");
        assert!(matches!(order(&one.routes[0], Policy::Ordered, 0), Order::Wait));
        assert!(one.routes[0].backends[0].set_addresses(&[]));
        assert!(matches!(order(&one.routes[0], Policy::Ordered, 0), Order::Nothing));
    }
}
