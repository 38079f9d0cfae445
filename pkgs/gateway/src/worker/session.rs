//! The client of a connection, and the route and backend that it gets.
//!
//! A session keeps the snapshot that was in force when it began, so a reload does not affect it.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::dial::{Order, order};
use super::end::End;
use crate::access::Record;
use crate::config::{self, Timeouts};
use crate::http::headers::Client;
use crate::proxy;
use crate::state::{BackendState, Demand, RouteState, Shared, Snapshot};

/// A client, and the destination of its connection.
#[derive(Debug)]
pub(super) struct Session {
    snapshot: Arc<Snapshot>,
    listener: u16,
    /// Index of the route in the snapshot.
    route: Option<u32>,
    /// Index of the backend in the route.
    target: Option<u16>,
    /// The client's address, taken from the PROXY header if there is one.
    client: SocketAddr,
    /// The address of the connected peer, to which the cap per address applies.
    peer: IpAddr,
    /// The address that the client connected to, according to the PROXY header.
    destination: Option<Box<SocketAddr>>,
    started: u64,
    /// The first name that the client asked for.
    name: Option<Box<str>>,
}

impl Session {
    /// Admits a client; `None` if the listener's caps forbid it.
    pub(super) fn admit(
        shared: &Shared,
        snapshot: &Arc<Snapshot>,
        listener: usize,
        peer: SocketAddr,
        now: u64,
    ) -> Option<Self> {
        let number = u16::try_from(listener).ok()?;
        let config = snapshot.config.listeners.get(listener)?;
        let counters = &shared.counters;
        counters.accepted.fetch_add(1, Ordering::Relaxed);
        if !snapshot.listeners[listener].enter(peer.ip(), config) {
            counters.capped.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        counters.open.fetch_add(1, Ordering::Relaxed);
        Some(Self {
            snapshot: Arc::clone(snapshot),
            listener: number,
            route: None,
            target: None,
            client: peer,
            peer: peer.ip(),
            destination: None,
            started: now,
            name: None,
        })
    }

    /// Returns the configuration of the listener.
    pub(super) fn listener(&self) -> &config::Listener {
        &self.snapshot.config.listeners[usize::from(self.listener)]
    }

    pub(super) fn timeouts(&self) -> Timeouts {
        self.listener().timeouts
    }

    pub(super) const fn started(&self) -> u64 {
        self.started
    }

    /// True if the peer must send a PROXY header.
    pub(super) fn needs_proxy_header(&self) -> bool {
        config::contains(&self.listener().proxy_in, self.peer)
    }

    /// Takes the client's address from a PROXY header.
    pub(super) fn introduce(&mut self, client: SocketAddr, destination: SocketAddr) {
        self.client = client;
        self.destination = Some(Box::new(destination));
    }

    /// Returns the properties of the client that header rules depend on.
    pub(super) fn client(&self) -> Client {
        let trusted = config::contains(&self.listener().trusted, self.peer);
        Client { address: self.client.ip(), trusted }
    }

    /// Remembers the first name that the client asks for.
    pub(super) fn asks_for(&mut self, name: &str) {
        self.name.get_or_insert_with(|| name.into());
    }

    /// Finds the route for a name; `alpn` is the client's list in TLS's form.
    pub(super) fn find(&self, name: Option<&str>, alpn: &[u8]) -> Option<usize> {
        self.snapshot.table.find(usize::from(self.listener), name, alpn)
    }

    /// Returns the configuration of a route.
    pub(super) fn route_config(&self, route: usize) -> &config::Route {
        &self.snapshot.config.routes[route]
    }

    /// Takes the route of the first name that the client asked for.
    pub(super) fn take_route(&mut self, route: usize) {
        self.route = u32::try_from(route).ok();
    }

    /// True once there is a route.
    pub(super) const fn is_routed(&self) -> bool {
        self.route.is_some()
    }

    /// Takes the route of a later request; returns false if the request may not use this connection's
    /// backend.
    ///
    /// It may if the new route has the same backend and the same kind of PROXY header.
    pub(super) fn change_route(&mut self, route: usize) -> bool {
        let Some(target) = self.target_in(route) else { return false };
        (self.route, self.target) = (u32::try_from(route).ok(), Some(target));
        true
    }

    /// Returns the index that the current backend has in another route.
    fn target_in(&self, route: usize) -> Option<u16> {
        let (_, current) = self.route()?;
        let backend = &self.backend()?.backend;
        let next = self.snapshot.routes.get(route)?;
        if self.route_config(route).proxy_out != current.proxy_out {
            return None;
        }
        let found = next.backends.iter().position(|state| state.backend == *backend)?;
        u16::try_from(found).ok()
    }

    fn route(&self) -> Option<(&RouteState, &config::Route)> {
        let index = usize::try_from(self.route?).ok()?;
        Some((self.snapshot.routes.get(index)?, self.snapshot.config.routes.get(index)?))
    }

    fn backend(&self) -> Option<&BackendState> {
        let (route, _) = self.route()?;
        route.backends.get(usize::from(self.target?)).map(AsRef::as_ref)
    }

    /// Takes the backend that is being tried.
    pub(super) const fn take_target(&mut self, target: u16) {
        self.target = Some(target);
    }

    /// Returns the addresses to try for the route, in their order.
    pub(super) fn order(&self, now: u64) -> Order {
        self.route().map_or(Order::Nothing, |(route, config)| order(route, config.policy, now))
    }

    /// Asks the control thread for the addresses of the route's backends.
    pub(super) fn want_addresses(&self, demand: &Demand) {
        let backends = self.route().into_iter().flat_map(|(route, _)| &route.backends);
        backends.filter(|backend| backend.addresses().is_none()).for_each(|one| demand.want(one));
    }

    /// Returns the PROXY header that the route's backends expect. `local` is the address that the
    /// client's socket is connected to.
    pub(super) fn proxy_header(&self, local: impl FnOnce() -> Option<SocketAddr>) -> Vec<u8> {
        let Some(version) = self.route().and_then(|(_, config)| config.proxy_out) else {
            return Vec::new();
        };
        let to = match &self.destination {
            Some(address) => **address,
            None => local().unwrap_or_else(|| self.listener().address),
        };
        proxy::header(version, self.client, to, self.name.as_deref())
    }

    /// Counts a connection of the route.
    pub(super) fn count_connection(&self) {
        if let Some((route, _)) = self.route() {
            route.counters.connections.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts a connection of the route for which no backend could be reached.
    pub(super) fn count_unreachable(&self) {
        if let Some((route, _)) = self.route() {
            route.counters.unreachable.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Returns the label of the route, for logs.
    pub(super) fn route_label(&self) -> Option<&str> {
        self.route().map(|(route, _)| route.label.as_str())
    }

    /// Counts and logs the session, which has ended. `up` and `down` are the bytes delivered to the
    /// backend and to the client.
    pub(super) fn leave(&self, shared: &Shared, (up, down): (u64, u64), end: End, now: u64) {
        let counters = &shared.counters;
        counters.open.fetch_sub(1, Ordering::Relaxed);
        self.snapshot.listeners[usize::from(self.listener)].leave(self.peer, self.listener());
        match self.route() {
            Some((route, _)) => {
                route.counters.up.fetch_add(up, Ordering::Relaxed);
                route.counters.down.fetch_add(down, Ordering::Relaxed);
            }
            None if end == End::UnknownName => {
                counters.unknown.fetch_add(1, Ordering::Relaxed);
            }
            None => {
                counters.unrouted.fetch_add(1, Ordering::Relaxed);
            }
        }
        let Some(access) = &shared.access else { return };
        let record = Record {
            listener: &self.listener().name,
            client: proxy::canonical(self.client),
            name: self.name.as_deref(),
            route: self.route_label(),
            backend: self.backend().map(|backend| backend.text.as_str()),
            up,
            down,
            millis: now.saturating_sub(self.started),
            end: end.word(),
        };
        access.push(&record.line());
    }
}
