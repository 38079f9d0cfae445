//! What a worker keeps of a connection, and when its time is over.

use std::net::SocketAddr;
use std::sync::Arc;

use rustix::fd::OwnedFd;

use super::dial::Dial;
use super::flow::{Flow, Side};
use super::web::Web;
use crate::config::{self, Timeouts};
use crate::state::{RouteState, Snapshot};
use crate::tls::hello;

/// Milliseconds that a client gets to read an answer or an alert and to close.
pub(super) const DRAIN_TIME: u64 = 2_000;

/// Bytes of a client that are thrown away after an answer, so that it is not lost by a reset.
pub(super) const DRAIN_BYTES: u32 = 256 << 10;

/// Where a connection is.
#[derive(Debug)]
pub(super) enum Phase {
    /// Waits for the PROXY header that its peer must send.
    Proxy,
    /// Waits for the `ClientHello`.
    Hello(hello::Scan),
    /// Waits for the first request's head.
    Head,
    /// Waits for an address of its backend.
    Resolve,
    /// Waits for the backend to accept.
    Connect,
    /// Relays, until both sides have ended.
    Relay,
    /// Has been answered by the gateway; waits for the client to close.
    Drain { left: u32, until: u64 },
}

/// Why a connection ended; the access log has the words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Done,
    ClientReset,
    BackendReset,
    ClientGone,
    HelloTimeout,
    ConnectTimeout,
    IdleTimeout,
    HalfClosedTimeout,
    Lifetime,
    Garbage,
    BadProxy,
    UnknownName,
    NoBackend,
    BadAnswer,
    Refused,
    Redirected,
}

impl End {
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::ClientReset => "client-reset",
            Self::BackendReset => "backend-reset",
            Self::ClientGone => "client-gone",
            Self::HelloTimeout => "hello-timeout",
            Self::ConnectTimeout => "connect-timeout",
            Self::IdleTimeout => "idle-timeout",
            Self::HalfClosedTimeout => "half-closed-timeout",
            Self::Lifetime => "lifetime",
            Self::Garbage => "garbage",
            Self::BadProxy => "bad-proxy-header",
            Self::UnknownName => "unknown-name",
            Self::NoBackend => "no-backend",
            Self::BadAnswer => "bad-answer",
            Self::Refused => "refused",
            Self::Redirected => "redirected",
        }
    }
}

/// Who talks to whom.
#[derive(Debug)]
pub(super) struct Addresses {
    /// The client, by the PROXY header if one came.
    pub(super) client: SocketAddr,
    /// Who connected: the key of the cap per address.
    pub(super) peer: SocketAddr,
    /// What the client connected to, by the PROXY header.
    pub(super) destination: Option<Box<SocketAddr>>,
}

/// A connection.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) client: OwnedFd,
    pub(super) backend: Option<OwnedFd>,
    pub(super) client_side: Side,
    pub(super) backend_side: Side,
    /// From the client to the backend.
    pub(super) up: Flow,
    /// From the backend to the client.
    pub(super) down: Flow,
    pub(super) phase: Phase,
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) listener: u16,
    /// The client's socket is known to the epoll.
    pub(super) registered: bool,
    pub(super) generation: u32,
    /// Index of the route in the snapshot.
    pub(super) route: Option<u32>,
    /// Index of the backend in the route.
    pub(super) target: Option<u16>,
    pub(super) addresses: Addresses,
    pub(super) started: u64,
    pub(super) active: u64,
    /// Bytes of the client that have not gone to a backend, or may have to go to another one.
    pub(super) buffer: Vec<u8>,
    /// How many of them have been looked at.
    pub(super) seen: usize,
    pub(super) name: Option<Box<str>>,
    pub(super) web: Option<Box<Web>>,
    pub(super) dial: Option<Box<Dial>>,
    pub(super) end: End,
}

impl Connection {
    pub(super) fn new(
        client: OwnedFd,
        peer: SocketAddr,
        snapshot: Arc<Snapshot>,
        listener: u16,
        generation: u32,
        now: u64,
    ) -> Self {
        // A byte may be there already, and there surely is room for one.
        let client_side = Side { readable: true, writable: true, ..Side::default() };
        let mut connection = Self {
            client,
            backend: None,
            client_side,
            backend_side: Side::default(),
            up: Flow::default(),
            down: Flow::default(),
            phase: Phase::Proxy,
            snapshot,
            listener,
            registered: false,
            generation,
            route: None,
            target: None,
            addresses: Addresses { client: peer, peer, destination: None },
            started: now,
            active: now,
            buffer: Vec::new(),
            seen: 0,
            name: None,
            web: None,
            dial: None,
            end: End::Done,
        };
        let config = connection.config();
        if !config.proxy_in.iter().any(|network| network.contains(peer.ip())) {
            connection.phase = connection.first_phase();
        }
        connection
    }

    /// Its listener's configuration.
    pub(super) fn config(&self) -> &config::Listener {
        &self.snapshot.config.listeners[usize::from(self.listener)]
    }

    /// Its route, with the route's configuration.
    pub(super) fn route(&self) -> Option<(&RouteState, &config::Route)> {
        let index = usize::try_from(self.route?).ok()?;
        Some((self.snapshot.routes.get(index)?, self.snapshot.config.routes.get(index)?))
    }

    /// What comes when there is no PROXY header any more.
    pub(super) fn first_phase(&self) -> Phase {
        match self.config().kind {
            config::Kind::Tls => Phase::Hello(hello::Scan::default()),
            config::Kind::Http => Phase::Head,
        }
    }

    /// When its time is over, if nothing happens.
    pub(super) fn deadline(&self) -> u64 {
        let Timeouts { hello, idle, half_closed, lifetime, .. } = self.config().timeouts;
        let phase = match &self.phase {
            Phase::Proxy | Phase::Hello(_) | Phase::Head => self.started + hello,
            Phase::Resolve | Phase::Connect => {
                self.dial.as_ref().map_or(self.active, |dial| dial.deadline())
            }
            Phase::Drain { until, .. } => *until,
            Phase::Relay if self.is_half_closed() => self.active + half_closed.min(idle),
            Phase::Relay => {
                let head = self.web.as_ref().and_then(|web| web.head_since);
                (self.active + idle).min(head.map_or(u64::MAX, |since| since + hello))
            }
        };
        phase.min(lifetime.map_or(u64::MAX, |lifetime| self.started + lifetime))
    }

    /// Whether the client was reset in the middle of something.
    pub(super) const fn is_abandoned(&self) -> bool {
        let under_way = matches!(self.phase, Phase::Resolve | Phase::Connect | Phase::Relay);
        under_way && self.client_side.broken
    }

    /// Whether one side has ended its sending. Over HTTP the client's end is announced, but not
    /// looked at before the answer is whole.
    pub(super) fn is_half_closed(&self) -> bool {
        let gone = self.web.is_some() && self.client_side.ending;
        self.up.ended || self.down.ended || gone
    }

    /// Why it ends when its time is over.
    pub(super) fn timeout(&self, now: u64) -> End {
        let lifetime = self.config().timeouts.lifetime;
        match &self.phase {
            _ if lifetime.is_some_and(|lifetime| self.started + lifetime <= now) => End::Lifetime,
            Phase::Proxy | Phase::Hello(_) | Phase::Head => End::HelloTimeout,
            Phase::Resolve | Phase::Connect => End::ConnectTimeout,
            Phase::Drain { .. } => self.end,
            Phase::Relay if self.is_half_closed() => End::HalfClosedTimeout,
            Phase::Relay if self.web.as_ref().is_some_and(|web| web.head_since.is_some()) => {
                End::HelloTimeout
            }
            Phase::Relay => End::IdleTimeout,
        }
    }
}
