//! The state that all threads share: the configuration in force, the backends' addresses and health,
//! and counters.
//!
//! The control thread writes, workers read. A connection keeps the snapshot that was in force when the
//! connection began, so a reload does not affect it.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Instant;

use kiln_server::access::AccessLog;
use kiln_server::threads::Wakers;

use crate::config::{self, Backend, Check, Config, Host, Listener, ProxyVersion};
use crate::limits::Share;
use crate::route::Table;

/// A backend's addresses and health.
#[derive(Debug)]
pub struct BackendState {
    /// The backend.
    pub backend: Backend,
    /// The backend as it is written in logs and metrics.
    pub text: String,
    /// `None` before the first response of DNS.
    addresses: RwLock<Option<Arc<[Address]>>>,
    /// The result of its checks; true for a backend without checks.
    pub up: AtomicBool,
    /// True once a client has waited for the addresses.
    wanted: AtomicBool,
}

/// An address of a backend, and the failures to connect to it.
///
/// A name may have several addresses of which some are dead, so each has its own memory.
#[derive(Debug, Clone)]
pub struct Address {
    /// The address.
    pub socket: SocketAddr,
    failures: Arc<Failures>,
}

#[derive(Debug, Default)]
struct Failures {
    /// Failures since the last success.
    count: AtomicU32,
    /// The moment (milliseconds of [`Shared::now`]) until which the address is tried last.
    until: AtomicU64,
}

/// Milliseconds during which an address that failed is tried last; doubled for each further failure.
const SUSPECT_TIME: u64 = 5_000;

/// The most doublings of [`SUSPECT_TIME`]: 80 seconds.
const DOUBLINGS_MAX: u32 = 4;

impl Address {
    fn new(socket: SocketAddr) -> Self {
        Self { socket, failures: Arc::default() }
    }

    /// True while the address is tried last, because it failed recently.
    #[must_use]
    pub fn is_suspect(&self, now: u64) -> bool {
        self.failures.until.load(Ordering::Relaxed) > now
    }

    /// Remembers that no connection to the address could be made.
    pub fn failed(&self, now: u64) {
        let before = self.failures.count.fetch_add(1, Ordering::Relaxed).min(DOUBLINGS_MAX);
        self.failures.until.store(now + (SUSPECT_TIME << before), Ordering::Relaxed);
    }

    /// Remembers that the address works.
    pub fn worked(&self) {
        if self.failures.count.load(Ordering::Relaxed) > 0 {
            self.failures.count.store(0, Ordering::Relaxed);
            self.failures.until.store(0, Ordering::Relaxed);
        }
    }
}

impl BackendState {
    /// Creates a backend that is up, and that has its address if it is configured by address.
    #[must_use]
    pub fn new(backend: Backend) -> Self {
        let known = match &backend.host {
            Host::Address(address) => {
                Some([Address::new(SocketAddr::new(*address, backend.port))].into())
            }
            Host::Name(_) => None,
        };
        Self {
            text: backend.to_string(),
            backend,
            addresses: RwLock::new(known),
            up: AtomicBool::new(true),
            wanted: AtomicBool::new(false),
        }
    }

    /// Returns the addresses; `None` before the first response of DNS.
    pub fn addresses(&self) -> Option<Arc<[Address]>> {
        self.addresses.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sets the addresses; returns true if they have changed. An address that was known keeps its
    /// failures.
    pub fn set_addresses(&self, new: &[SocketAddr]) -> bool {
        let mut held = self.addresses.write().unwrap_or_else(PoisonError::into_inner);
        let old = held.as_deref();
        if old.is_some_and(|old| old.iter().map(|address| &address.socket).eq(new)) {
            return false;
        }
        let old: HashMap<SocketAddr, &Address> =
            old.unwrap_or_default().iter().map(|address| (address.socket, address)).collect();
        let address = |socket: &SocketAddr| {
            old.get(socket).map_or_else(|| Address::new(*socket), |known| (*known).clone())
        };
        let new = new.iter().map(address).collect();
        *held = Some(new);
        true
    }
}

/// The names that clients wait for, which the control thread resolves first.
#[derive(Debug)]
pub struct Demand {
    names: Mutex<Vec<String>>,
    /// Wakes the control thread.
    pub waker: Wakers,
}

impl Demand {
    /// Creates an empty list.
    ///
    /// # Errors
    /// Fails if there is no descriptor for waking the control thread.
    pub fn new() -> anyhow::Result<Self> {
        Ok(Self { names: Mutex::default(), waker: Wakers::new(1)? })
    }

    /// Wants the addresses of a backend. Repeated calls for the same backend change nothing.
    pub fn want(&self, backend: &BackendState) {
        let Host::Name(name) = &backend.backend.host else { return };
        if !backend.wanted.swap(true, Ordering::Relaxed) {
            self.names.lock().unwrap_or_else(PoisonError::into_inner).push(name.clone());
            self.waker.wake();
        }
    }

    /// Takes all names.
    pub fn take(&self) -> Vec<String> {
        self.waker.clear(0);
        std::mem::take(&mut self.names.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A route with its state.
#[derive(Debug)]
pub struct RouteState {
    /// The name in logs and metrics.
    pub label: String,
    /// The backends, in the order of the file.
    pub backends: Vec<Arc<BackendState>>,
    /// The number of connections so far, so that backends are used in turn.
    pub turn: AtomicUsize,
    /// Counters. They survive reloads.
    pub counters: Arc<RouteCounters>,
}

/// The counters of a route.
#[derive(Debug, Default)]
pub struct RouteCounters {
    /// Connections that were routed.
    pub connections: AtomicU64,
    /// Bytes from clients.
    pub up: AtomicU64,
    /// Bytes to clients.
    pub down: AtomicU64,
    /// Connections for which no backend could be reached.
    pub unreachable: AtomicU64,
}

/// The open connections of a listener.
#[derive(Debug, Default)]
pub struct ListenerState {
    /// Open connections.
    open: AtomicU32,
    /// Open connections per address; empty if there is no cap.
    per_address: Mutex<HashMap<IpAddr, u32>>,
}

impl ListenerState {
    /// Counts a connection from an address; returns false if one of the listener's caps forbids it.
    pub fn enter(&self, address: IpAddr, config: &Listener) -> bool {
        let open = self.open.fetch_add(1, Ordering::Relaxed);
        let full = config.max_connections.is_some_and(|most| open >= most);
        if full || !self.enter_from(address, config.max_per_address) {
            self.open.fetch_sub(1, Ordering::Relaxed);
            return false;
        }
        true
    }

    fn enter_from(&self, address: IpAddr, most: Option<u32>) -> bool {
        let Some(most) = most else { return true };
        let mut counts = self.per_address.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(address.to_canonical()).or_insert(0);
        if *count >= most {
            return false;
        }
        *count += 1;
        true
    }

    /// Reverts [`Self::enter`] for a connection that has ended.
    pub fn leave(&self, address: IpAddr, config: &Listener) {
        self.open.fetch_sub(1, Ordering::Relaxed);
        if config.max_per_address.is_none() {
            return;
        }
        let mut counts = self.per_address.lock().unwrap_or_else(PoisonError::into_inner);
        if let Entry::Occupied(mut count) = counts.entry(address.to_canonical()) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

/// A configuration in force.
#[derive(Debug)]
pub struct Snapshot {
    /// The file's content.
    pub config: Config,
    /// Routes by name.
    pub table: Table,
    /// Routes, by the same index as in `config`.
    pub routes: Vec<RouteState>,
    /// Listeners, by the same index as in `config`.
    pub listeners: Vec<Arc<ListenerState>>,
    /// Listening sockets, by the same index as `listeners`.
    pub sockets: Vec<Arc<OwnedFd>>,
}

/// The state that survives a reload.
#[derive(Debug, Default)]
pub struct Registry {
    backends: HashMap<BackendKey, Arc<BackendState>>,
    counters: HashMap<String, Arc<RouteCounters>>,
    listeners: HashMap<SocketAddr, Arc<ListenerState>>,
}

/// The identity of a backend: backends with different checks are different backends. The number is
/// the version of the PROXY header that checks send.
pub type BackendKey = (Backend, Option<Check>, Option<u8>);

impl Registry {
    /// Builds a snapshot, and forgets the state that only earlier snapshots used.
    pub fn snapshot(&mut self, config: Config, sockets: Vec<Arc<OwnedFd>>) -> Snapshot {
        let old = std::mem::take(self);
        let routes = config.routes.iter().map(|route| self.route(&old, route)).collect();
        let listeners = config.listeners.iter().map(|listener| {
            let state = old.listeners.get(&listener.address).cloned().unwrap_or_default();
            self.listeners.insert(listener.address, Arc::clone(&state));
            state
        });
        let listeners = listeners.collect();
        Snapshot { table: Table::new(&config), routes, listeners, sockets, config }
    }

    fn route(&mut self, old: &Self, route: &config::Route) -> RouteState {
        let label = route.label();
        let backend = |backend: &Backend| {
            let key = key(backend, route);
            let known = self.backends.get(&key).or_else(|| old.backends.get(&key)).cloned();
            let state = known.unwrap_or_else(|| Arc::new(BackendState::new(backend.clone())));
            self.backends.insert(key, Arc::clone(&state));
            state
        };
        let backends = route.backends.iter().map(backend).collect();
        let known = self.counters.get(&label).or_else(|| old.counters.get(&label)).cloned();
        let counters = known.unwrap_or_default();
        self.counters.insert(label.clone(), Arc::clone(&counters));
        RouteState { label, backends, turn: AtomicUsize::new(0), counters }
    }

    /// Returns all backends with their keys.
    pub fn backends(&self) -> impl Iterator<Item = (&BackendKey, &Arc<BackendState>)> {
        self.backends.iter()
    }
}

fn key(backend: &Backend, route: &config::Route) -> BackendKey {
    let proxy = route.check.as_ref().and(route.proxy_out).map(|version| match version {
        ProxyVersion::V1 => 1,
        ProxyVersion::V2 => 2,
    });
    (backend.clone(), route.check.clone(), proxy)
}

/// The counters of the whole gateway.
#[derive(Debug, Default)]
pub struct Counters {
    /// Connections that are open.
    pub open: AtomicUsize,
    /// Connections that were accepted.
    pub accepted: AtomicU64,
    /// Connections that ended before they had a route: garbage, a timeout, or a client that closed.
    pub unrouted: AtomicU64,
    /// Connections whose name has no route.
    pub unknown: AtomicU64,
    /// Connections that were closed at once because of a cap.
    pub capped: AtomicU64,
    /// Times that accepting paused because descriptors or connections ran out.
    pub pauses: AtomicU64,
    /// Reloads that took effect.
    pub reloads: AtomicU64,
    /// Reloads that were refused.
    pub refused_reloads: AtomicU64,
}

/// The state that the control thread and all workers share.
#[derive(Debug)]
pub struct Shared {
    start: Instant,
    snapshot: Mutex<Arc<Snapshot>>,
    /// The number of new snapshots and changed addresses so far.
    pub news: AtomicU64,
    /// True once the gateway is shutting down: it accepts no connections, and idle ones end.
    pub draining: AtomicBool,
    /// Counters.
    pub counters: Counters,
    /// The maximum numbers of connections and pipes.
    pub limits: Share,
    /// The access log.
    pub access: Option<Arc<AccessLog>>,
    /// The names that clients wait for.
    pub demand: Arc<Demand>,
    /// Wakes workers so that they read `snapshot`, `news` and `draining`.
    pub wakers: Wakers,
}

impl Shared {
    /// Creates the state with its first snapshot.
    #[must_use]
    pub fn new(
        first: Arc<Snapshot>,
        wakers: Wakers,
        demand: Demand,
        limits: Share,
        access: Option<Arc<AccessLog>>,
    ) -> Self {
        Self {
            start: Instant::now(),
            snapshot: Mutex::new(first),
            news: AtomicU64::new(0),
            draining: AtomicBool::new(false),
            counters: Counters::default(),
            limits,
            access,
            demand: Arc::new(demand),
            wakers,
        }
    }

    /// Returns the milliseconds since the start.
    #[must_use]
    pub fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Returns the configuration in force.
    #[must_use]
    pub fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.snapshot.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts a configuration in force.
    pub fn publish(&self, snapshot: Arc<Snapshot>) {
        *self.snapshot.lock().unwrap_or_else(PoisonError::into_inner) = snapshot;
        self.wake();
    }

    /// Wakes the workers so that they read the news.
    pub fn wake(&self) {
        self.news.fetch_add(1, Ordering::Release);
        self.wakers.wake();
    }
}
