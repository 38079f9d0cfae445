//! A connection from accept to end: its phases, and the deadline of each.
//!
//! Each part makes its own decisions: [`Session`] chooses the route and backend, [`Dial`] the address
//! to try, [`Web`] finds the ends of requests and responses, and [`Link`] moves bytes. This file only
//! calls them in order.

use rustix::event::epoll::EventFlags;
use rustix::fd::OwnedFd;

use super::dial::{Dial, Order};
use super::end::{Closing, End};
use super::flow::{Broken, Stop};
use super::inbox::{Fill, Inbox};
use super::link::{Key, Link, Side};
use super::opening;
use super::session::Session;
use super::tools::Tools;
use super::web::{Parts, Relayed, Web};
use crate::config::{Kind, Timeouts};
use crate::limits::{self, LogLimit};
use crate::state::Shared;
use crate::tls::Alert;
use crate::tls::hello;

/// Milliseconds for a client to read an answer or an alert and to close the connection.
const DRAIN_TIME: u64 = 2_000;

/// The most bytes of a client that are discarded after an answer, so that no reset destroys it.
const DRAIN_BYTES_MAX: u32 = 256 << 10;

static NO_BACKEND: LogLimit = LogLimit::new();

/// The progress of a connection.
#[derive(Debug)]
enum Phase {
    /// Waits for the peer's PROXY header.
    Proxy,
    /// Waits for the `ClientHello`.
    Hello(hello::Scan),
    /// Waits for the first request's head.
    Head,
    /// Waits for an address of the backend.
    Resolve,
    /// Waits for the connection to the backend.
    Connect,
    /// Relays until both sides have closed.
    Relay,
    /// The gateway has answered, and waits for the client to close.
    Drain { left: u32, until: u64, end: End },
}

/// The result of a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// There may be more to do at once.
    Next,
    /// Nothing can be done before the next event.
    Wait,
    /// Nothing can be done before DNS answers.
    Park,
    /// More can be done, but it is other connections' turn.
    Yield,
    /// The connection has ended.
    Close(End),
}

/// A connection.
#[derive(Debug)]
pub(super) struct Connection {
    phase: Phase,
    session: Session,
    link: Link,
    /// Bytes of the client that were not sent to a backend.
    inbox: Inbox,
    web: Option<Box<Web>>,
    /// Present until a request has been sent or, for TLS, until the backend has responded.
    dial: Option<Box<Dial>>,
}

impl Connection {
    pub(super) fn new(client: OwnedFd, session: Session, key: Key) -> Self {
        let phase =
            if session.needs_proxy_header() { Phase::Proxy } else { Self::first_phase(&session) };
        let link = Link::new(client, key, session.started());
        Self { phase, session, link, inbox: Inbox::default(), web: None, dial: None }
    }

    /// Returns the phase after the PROXY header.
    fn first_phase(session: &Session) -> Phase {
        match session.listener().kind {
            Kind::Tls => Phase::Hello(hello::Scan::default()),
            Kind::Http => Phase::Head,
        }
    }

    pub(super) const fn key(&self) -> Key {
        self.link.key()
    }

    /// Records an event of one of the sockets.
    pub(super) fn event(&mut self, side: Side, flags: EventFlags) {
        match (side, &mut self.dial) {
            (Side::Trial, Some(dial)) => dial.event(),
            _ => self.link.event(side, flags),
        }
    }

    /// Makes epoll report the sockets.
    pub(super) fn register(&mut self, tools: &Tools) -> rustix::io::Result<()> {
        self.link.register(&tools.epoll)
    }

    /// Takes one step that does not have to wait.
    pub(super) fn turn(&mut self, tools: &mut Tools) -> Turn {
        let result = match self.phase {
            Phase::Proxy => self.read_proxy_header(tools),
            Phase::Hello(_) => self.read_hello(tools),
            Phase::Head => self.read_head(tools),
            Phase::Resolve => Ok(Turn::Wait),
            Phase::Connect => self.connect(tools),
            Phase::Relay if self.web.is_some() => self.relay_web(tools),
            Phase::Relay => self.relay(tools),
            Phase::Drain { .. } => Ok(self.drain(tools)),
        };
        result.unwrap_or_else(|closing| self.begin_closing(closing, tools))
    }

    /// Tries to find an address again, after news from DNS.
    pub(super) fn unpark(&mut self, tools: &mut Tools) -> Turn {
        // The parked connection may have ended, and another connection may have its index.
        if !matches!(self.phase, Phase::Resolve) {
            return Turn::Wait;
        }
        self.resolve(tools).unwrap_or_else(|closing| self.begin_closing(closing, tools))
    }

    /// Makes the response that is under way the last one, or ends an idle HTTP connection.
    ///
    /// A connection that waits for its first request is not idle, because the client connected before
    /// the shutdown began.
    pub(super) fn finish(&mut self) {
        let asked = matches!(self.phase, Phase::Resolve | Phase::Connect | Phase::Relay);
        if let (true, Some(web)) = (asked, &mut self.web) {
            web.finish();
        }
    }

    /// True if the client has reset a connection that is in progress. The gateway does not
    /// read from a client that waits for its backend, so no read reports the reset.
    pub(super) const fn is_abandoned(&self) -> bool {
        let under_way = matches!(self.phase, Phase::Resolve | Phase::Connect | Phase::Relay);
        under_way && self.link.client_is_gone()
    }

    /// Frees the connection's resources, then counts and logs it.
    pub(super) fn close(mut self: Box<Self>, end: End, shared: &Shared, tools: &mut Tools) {
        self.link.close(end, &mut tools.pipes);
        self.session.leave(shared, self.link.totals(), end, tools.now);
    }

    /// Begins to close the connection.
    fn begin_closing(&mut self, closing: Closing, tools: &mut Tools) -> Turn {
        let end = match closing {
            Closing::Now(end) => return Turn::Close(end),
            Closing::Delivered(end) => {
                self.link.end_down();
                end
            }
            Closing::Answer(bytes, end) => {
                self.dial = None;
                self.web = None;
                self.inbox.take();
                self.link.answer(&bytes, &mut tools.pipes);
                end
            }
        };
        self.phase = Phase::Drain { left: DRAIN_BYTES_MAX, until: tools.now + DRAIN_TIME, end };
        Turn::Next
    }

    fn drain(&mut self, tools: &mut Tools) -> Turn {
        let Phase::Drain { left, end, .. } = &mut self.phase else { return Turn::Wait };
        if self.link.drain(left, tools) { Turn::Close(*end) } else { Turn::Wait }
    }
}

// From the first byte to a route.
impl Connection {
    /// Makes sure that the inbox has bytes that no parser has seen; returns false if nothing
    /// can be read before the next event.
    fn fill(&mut self, tools: &mut Tools) -> Result<bool, Closing> {
        match self.link.fill(&mut self.inbox, tools) {
            Ok(Fill::New) => Ok(true),
            Ok(Fill::Nothing) => Ok(false),
            Ok(Fill::End) => Err(Closing::Now(End::ClientGone)),
            Err(_) => Err(Closing::Now(End::ClientReset)),
        }
    }

    fn read_proxy_header(&mut self, tools: &mut Tools) -> Result<Turn, Closing> {
        if !self.fill(tools)? {
            return Ok(Turn::Wait);
        }
        if opening::proxy_header(&mut self.inbox, &mut self.session)? {
            self.phase = Self::first_phase(&self.session);
        }
        Ok(Turn::Next)
    }

    fn read_hello(&mut self, tools: &mut Tools) -> Result<Turn, Closing> {
        if !self.fill(tools)? {
            return Ok(Turn::Wait);
        }
        let Phase::Hello(scan) = &mut self.phase else { return Ok(Turn::Wait) };
        if !opening::client_hello(scan, &self.inbox, &mut self.session)? {
            return Ok(Turn::Next);
        }
        let first = self.inbox.take();
        self.dial(first, tools)
    }

    fn read_head(&mut self, tools: &mut Tools) -> Result<Turn, Closing> {
        // A client that has sent nothing needs no HTTP state.
        if !self.fill(tools)? {
            return Ok(Turn::Wait);
        }
        let Self { link, inbox, session, web, .. } = self;
        let web = web.get_or_insert_default();
        web.parse(&mut Parts { link, inbox, session }, tools)?;
        if !self.session.is_routed() {
            return Ok(Turn::Next);
        }
        let first = self.link.take_up();
        self.dial(first, tools)
    }
}

// From a route to a connected backend.
impl Connection {
    /// Begins to connect to a backend. `first` has the bytes that the client has sent.
    fn dial(&mut self, mut first: Vec<u8>, tools: &mut Tools) -> Result<Turn, Closing> {
        self.session.count_connection();
        let mut header = self.session.proxy_header(|| self.link.local_address());
        if !header.is_empty() {
            header.append(&mut first);
            first = header;
        }
        let until = tools.now + self.session.timeouts().connect;
        self.dial = Some(Box::new(Dial::new(first, until)));
        self.resolve(tools)
    }

    /// Looks up the backends' addresses; waits if DNS has not answered.
    fn resolve(&mut self, tools: &mut Tools) -> Result<Turn, Closing> {
        match (self.session.order(tools.now), &mut self.dial) {
            (Order::Try(candidates), Some(dial)) => {
                dial.set_candidates(candidates);
                self.try_next(tools)
            }
            (Order::Wait, _) => {
                self.session.want_addresses(&tools.demand);
                self.phase = Phase::Resolve;
                Ok(Turn::Park)
            }
            _ => Err(self.no_backend(tools.now)),
        }
    }

    /// Tries one address after another until a connection attempt has started. Without another
    /// address, waits for the earlier attempts.
    fn try_next(&mut self, tools: &mut Tools) -> Result<Turn, Closing> {
        self.phase = Phase::Connect;
        while let Some(candidate) = self.dial.as_mut().and_then(|dial| dial.next(tools.now)) {
            self.session.take_target(candidate.target);
            match self.link.connect(candidate.address.socket, &tools.epoll) {
                Ok(()) => return Ok(Turn::Next),
                // Other addresses need a descriptor and memory too.
                Err(errno) if limits::is_exhausted(errno) => break,
                Err(_) => candidate.address.failed(tools.now),
            }
        }
        self.link.drop_backend();
        if self.dial.as_ref().is_some_and(|dial| dial.has_trials()) {
            return Ok(Turn::Wait);
        }
        Err(self.no_backend(tools.now))
    }

    /// Sends the first bytes, which a socket accepts once it is connected.
    fn connect(&mut self, tools: &mut Tools) -> Result<Turn, Closing> {
        let Some(dial) = &mut self.dial else { return Err(Closing::Now(End::NoBackend)) };
        if let Some((socket, target, count)) = dial.connected_trial(tools.now) {
            self.session.take_target(target);
            let adopted = self.link.adopt(socket, &tools.epoll);
            adopted.map_err(|_| Closing::Now(End::BackendReset))?;
            self.connected(count, tools.now);
            return Ok(Turn::Next);
        }
        let Some(backend) = self.link.backend() else {
            return if dial.has_trials() {
                Ok(Turn::Wait)
            } else {
                Err(self.no_backend(tools.now))
            };
        };
        match backend.send_first(dial.unsent()) {
            Ok(Some(count)) => {
                dial.sent(count);
                self.connected(count, tools.now);
                Ok(Turn::Next)
            }
            Ok(None) => Ok(Turn::Wait),
            Err(_) => {
                dial.failed(tools.now);
                self.try_next(tools)
            }
        }
    }

    /// Begins the next attempt while the latest one may still succeed, or ends all attempts when the
    /// time is over.
    fn stagger(&mut self, tools: &mut Tools) -> Result<Turn, Closing> {
        let pending = self.link.set_aside(&tools.epoll);
        let Some(dial) = &mut self.dial else { return Err(Closing::Now(End::NoBackend)) };
        if let Some(socket) = pending {
            dial.set_aside(socket, tools.now);
        }
        if dial.has_time(tools.now) {
            return self.try_next(tools);
        }
        dial.give_up(tools.now);
        Err(self.no_backend(tools.now))
    }

    /// Begins to relay: the backend is connected and has received `count` bytes.
    fn connected(&mut self, count: usize, now: u64) {
        let Some(dial) = &mut self.dial else { return };
        dial.worked(now);
        self.link.connected(count as u64, now);
        self.link.push_up(dial.unsent());
        self.phase = Phase::Relay;
        // A request is sent only once. A hello may be sent again until the backend has answered.
        if self.web.is_some() {
            self.dial = None;
        }
    }

    /// True if another backend may be tried after a backend that closed without sending a byte: the
    /// client has sent nothing but its hello.
    fn may_try_another(&self, now: u64) -> bool {
        let (up, down) = self.link.totals();
        let untouched = down == 0 && !self.link.client_has_ended();
        untouched && self.dial.as_ref().is_some_and(|dial| dial.may_try_another(up, now))
    }

    fn no_backend(&self, now: u64) -> Closing {
        if let (Some(route), Some(more)) = (self.session.route_label(), NO_BACKEND.pass(now)) {
            tracing::warn!(route, more, "no backend can be reached");
        }
        if let Some(web) = &self.web {
            return web.unreachable(&self.session, End::NoBackend);
        }
        self.session.count_unreachable();
        Closing::alert(Alert::InternalError, End::NoBackend)
    }
}

// From a connected backend to the end.
impl Connection {
    /// Moves requests and answers.
    fn relay_web(&mut self, tools: &mut Tools) -> Result<Turn, Closing> {
        let Self { link, inbox, session, web: Some(web), .. } = self else {
            return Ok(Turn::Next);
        };
        Ok(match web.relay(&mut Parts { link, inbox, session }, tools)? {
            Relayed::Changed => Turn::Next,
            Relayed::Blocked => Turn::Wait,
            Relayed::Budget => Turn::Yield,
            Relayed::Opaque => {
                self.web = None;
                Turn::Next
            }
        })
    }

    /// Moves bytes in both directions without reading them: TLS after its hello, and the protocol
    /// that HTTP was upgraded to.
    fn relay(&mut self, tools: &mut Tools) -> Result<Turn, Closing> {
        let (_, up) = self.link.pump_up(u64::MAX, tools);
        let (_, down) = self.link.pump_down(u64::MAX, tools);
        let (_, answered) = self.link.totals();
        if answered > 0 {
            self.dial = None;
        }
        let backend_gone = matches!(up, Err(Broken::Sink))
            || matches!(down, Err(Broken::Source) | Ok(Stop::Ended));
        if backend_gone && self.may_try_another(tools.now) {
            self.link.restart(&mut tools.pipes);
            return self.try_next(tools);
        }
        match (up, down) {
            (Err(Broken::Source), _) | (_, Err(Broken::Sink)) => {
                Err(Closing::Now(End::ClientReset))
            }
            (Err(Broken::Sink), _) => Err(self.deliver_rest(tools)),
            (_, Err(Broken::Source)) => Err(Closing::Now(End::BackendReset)),
            // Closing ends both directions and costs one call less than two shutdowns.
            (Ok(Stop::Ended), Ok(Stop::Ended)) => Err(Closing::Now(End::Done)),
            (Ok(up), Ok(down)) => {
                self.link.shut();
                let budget = up == Stop::Budget || down == Stop::Budget;
                Ok(if budget { Turn::Yield } else { Turn::Wait })
            }
        }
    }

    /// Delivers the bytes that the backend sent before it stopped reading.
    fn deliver_rest(&mut self, tools: &mut Tools) -> Closing {
        self.link.read_rest();
        match self.link.pump_down(u64::MAX, tools) {
            (_, Ok(Stop::Ended)) => Closing::Delivered(End::Done),
            _ => Closing::Now(End::BackendReset),
        }
    }
}

// Deadlines.
impl Connection {
    /// Returns the moment at which the connection ends if nothing happens.
    pub(super) fn deadline(&self) -> u64 {
        let Timeouts { hello, idle, half_closed, lifetime, .. } = self.session.timeouts();
        let (started, active) = (self.session.started(), self.link.active());
        let phase = match &self.phase {
            Phase::Proxy | Phase::Hello(_) | Phase::Head => started + hello,
            Phase::Resolve | Phase::Connect => {
                self.dial.as_ref().map_or(active, |dial| dial.deadline())
            }
            Phase::Drain { until, .. } => *until,
            Phase::Relay if self.is_half_closed() => active + half_closed.min(idle),
            Phase::Relay => {
                (active + idle).min(self.head_since().map_or(u64::MAX, |since| since + hello))
            }
        };
        phase.min(lifetime.map_or(u64::MAX, |lifetime| started + lifetime))
    }

    /// Ends the connection, or tries another backend, because its deadline has passed.
    pub(super) fn expire(&mut self, tools: &mut Tools) -> Turn {
        let result = self.time_out(tools);
        result.unwrap_or_else(|closing| self.begin_closing(closing, tools))
    }

    fn time_out(&mut self, tools: &mut Tools) -> Result<Turn, Closing> {
        let end = self.timeout_end(tools.now);
        match (&self.phase, end) {
            (Phase::Connect, End::ConnectTimeout) => self.stagger(tools),
            (Phase::Resolve, End::ConnectTimeout) => Err(self.no_backend(tools.now)),
            (Phase::Head, End::HelloTimeout) if self.inbox.is_empty() => Err(Closing::Now(end)),
            (Phase::Head, End::HelloTimeout) | (Phase::Relay, _) => {
                Err(self.web.as_ref().map_or(Closing::Now(end), |web| web.timeout(&self.link, end)))
            }
            _ => Err(Closing::Now(end)),
        }
    }

    /// Returns the reason why the connection ends when its deadline has passed.
    fn timeout_end(&self, now: u64) -> End {
        let lifetime = self.session.timeouts().lifetime;
        match self.phase {
            _ if lifetime.is_some_and(|lifetime| self.session.started() + lifetime <= now) => {
                End::Lifetime
            }
            Phase::Proxy | Phase::Hello(_) | Phase::Head => End::HelloTimeout,
            Phase::Resolve | Phase::Connect => End::ConnectTimeout,
            Phase::Drain { end, .. } => end,
            Phase::Relay if self.is_half_closed() => End::HalfClosedTimeout,
            Phase::Relay if self.head_since().is_some() => End::HelloTimeout,
            Phase::Relay => End::IdleTimeout,
        }
    }

    fn head_since(&self) -> Option<u64> {
        self.web.as_ref().and_then(|web| web.head_since())
    }

    /// True if one side has stopped sending. Over HTTP the client's end counts as soon as epoll
    /// reports it, because the gateway does not read it before the response is complete.
    fn is_half_closed(&self) -> bool {
        let announced = self.web.is_some() && self.link.client_is_ending();
        self.link.is_half_closed() || announced
    }
}
