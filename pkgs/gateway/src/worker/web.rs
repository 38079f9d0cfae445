//! A connection on which every request is read: HTTP, until a backend responds with 101.

use super::end::{Closing, End};
use super::flow::{Broken, Stop};
use super::inbox::{Fill, Inbox};
use super::link::Link;
use super::session::Session;
use super::socket::Read;
use super::tools::Tools;
use crate::http::exchange::{Exchange, FromBackend, FromClient};
use crate::http::head::Head;
use crate::http::{Refusal, answer};

/// The parts of the connection that HTTP works on.
pub(super) struct Parts<'a> {
    pub(super) link: &'a mut Link,
    pub(super) inbox: &'a mut Inbox,
    pub(super) session: &'a mut Session,
}

/// The state of HTTP on a connection.
#[derive(Debug, Default)]
pub(super) struct Web {
    exchange: Exchange,
    /// The moment at which an incomplete head was first seen.
    head_since: Option<u64>,
    /// Bytes of an incomplete head from the backend.
    kept: Vec<u8>,
}

/// The result of moving bytes in both directions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Relayed {
    /// The state has changed, so there may be more to do at once.
    Changed,
    /// Nothing can be moved before the next event.
    Blocked,
    /// It is other connections' turn.
    Budget,
    /// A backend has responded with 101, so the connection is no longer HTTP.
    Opaque,
}

impl Web {
    /// Moves bytes of requests and responses in both directions.
    pub(super) fn relay(
        &mut self,
        parts: &mut Parts<'_>,
        tools: &mut Tools,
    ) -> Result<Relayed, Closing> {
        let up = self.relay_up(parts, tools)?;
        let down = self.relay_down(parts, tools)?;
        if self.exchange.is_opaque() {
            parts.link.push_down(&std::mem::take(&mut self.kept));
            parts.link.push_up(&parts.inbox.take());
            return Ok(Relayed::Opaque);
        }
        if self.exchange.is_over() && parts.link.client_has_all() {
            return Err(Closing::Delivered(End::Done));
        }
        Ok(match (up, down) {
            // The response is complete, and the next request may already be here.
            (Stop::Limit, _) | (_, Stop::Limit) => Relayed::Changed,
            (Stop::Budget, _) | (_, Stop::Budget) => Relayed::Budget,
            _ => Relayed::Blocked,
        })
    }

    /// Moves bytes from client to backend. `Limit` means that the state has changed.
    fn relay_up(&mut self, parts: &mut Parts<'_>, tools: &mut Tools) -> Result<Stop, Closing> {
        loop {
            match parts.link.flush_up(&mut tools.pipes) {
                Ok(true) => {}
                Ok(false) => return Ok(Stop::Blocked),
                Err(_) => parts.link.give_up_sending(&mut tools.pipes),
            }
            if tools.budget == 0 {
                return Ok(Stop::Budget);
            }
            // A later request is read when the response before it is delivered, because the gateway
            // may have to answer the request itself.
            let early = self.exchange.is_idle() && !parts.link.client_has_all();
            if early || !self.exchange.wants_client() {
                return Ok(Stop::Blocked);
            }
            let opaque = self.exchange.opaque_up();
            if parts.inbox.is_empty() && opaque > 0 {
                match self.pump_up(parts.link, opaque, tools)? {
                    Stop::Limit => continue,
                    stop => return Ok(stop),
                }
            }
            if !self.read(parts, tools)? {
                return Ok(Stop::Blocked);
            }
        }
    }

    fn pump_up(&mut self, link: &mut Link, limit: u64, tools: &mut Tools) -> Result<Stop, Closing> {
        let (moved, stop) = link.pump_up(limit, tools);
        self.exchange.passed_up(moved);
        match stop {
            Ok(Stop::Ended) => Err(Closing::Now(End::ClientGone)),
            Ok(stop) => Ok(stop),
            Err(Broken::Source) => Err(Closing::Now(End::ClientReset)),
            Err(Broken::Sink) => {
                link.read_rest();
                Ok(Stop::Blocked)
            }
        }
    }

    /// Reads the client's bytes and passes them on to the backend, as far as possible; returns false if
    /// the client has sent no more.
    fn read(&mut self, parts: &mut Parts<'_>, tools: &mut Tools) -> Result<bool, Closing> {
        match parts.link.fill(parts.inbox, tools) {
            Ok(Fill::New) => self.parse(parts, tools).map(|()| true),
            Ok(Fill::Nothing) => Ok(false),
            // Between requests this is the usual end.
            Ok(Fill::End) if parts.inbox.is_empty() => Err(Closing::Now(End::Done)),
            Ok(Fill::End) => Err(Closing::Now(End::ClientGone)),
            Err(_) => Err(Closing::Now(End::ClientReset)),
        }
    }

    /// Parses the client's bytes once, and passes on those that may go to the backend.
    pub(super) fn parse(&mut self, parts: &mut Parts<'_>, tools: &Tools) -> Result<(), Closing> {
        match self.exchange.client(parts.inbox.bytes()) {
            Ok(FromClient::More) => {
                self.head_since.get_or_insert(tools.now);
            }
            Ok(FromClient::Wait) => {}
            Ok(FromClient::Skip(count)) => parts.inbox.consume(count),
            Ok(FromClient::Forward(count)) => {
                parts.link.push_up(&parts.inbox.bytes()[..count]);
                parts.inbox.consume(count);
                parts.inbox.trim();
            }
            Ok(FromClient::Head(head)) => self.request(parts, &head, tools.draining)?,
            Err(refusal) => return Err(self.refuse_malformed(parts.link, refusal)),
        }
        Ok(())
    }

    /// Routes a request and passes its head on. A later request goes to the same backend or is
    /// refused.
    fn request(
        &mut self,
        parts: &mut Parts<'_>,
        head: &Head,
        draining: bool,
    ) -> Result<(), Closing> {
        let Parts { link, inbox, session } = parts;
        let (host, is_first) = (head.host.host.as_str(), !session.is_routed());
        let name = Some(host).filter(|host| !host.is_empty());
        if let Some(name) = name {
            session.asks_for(name);
        }
        let Some(route) = session.find(name, b"") else {
            let end = if is_first { End::UnknownName } else { End::Refused };
            return Err(Closing::refuse(Refusal::NotFound, head.is_head, end));
        };
        if is_first {
            session.take_route(route);
        }
        let config = session.route_config(route);
        if config.redirect && name.is_none() {
            let refusal = Refusal::BadRequest("the Host field is missing");
            return Err(Closing::refuse(refusal, head.is_head, End::Refused));
        }
        if config.redirect {
            let path = &inbox.bytes()[head.path.clone()];
            let answer = answer::redirect(host, path, head.is_head);
            return Err(Closing::Answer(answer, End::Redirected));
        }
        let rules = config.headers;
        if !is_first && !session.change_route(route) {
            return Err(Closing::refuse(Refusal::Misdirected, head.is_head, End::Refused));
        }
        let close = draining || rules.is_one_request();
        let mut out = Vec::new();
        rules.forward(&head.request(inbox.bytes()), session.client(), close, &mut out);
        link.push_up(&out);
        inbox.consume(head.length);
        self.exchange.begin(head, close);
        self.head_since = None;
        Ok(())
    }

    fn refuse_malformed(&self, link: &Link, refusal: Refusal) -> Closing {
        if self.exchange.can_answer() && link.client_has_all() {
            return self.refuse(refusal, End::Refused);
        }
        Closing::Now(End::BackendReset)
    }

    /// Moves bytes from backend to client. `Limit` means that the state has changed.
    fn relay_down(&mut self, parts: &mut Parts<'_>, tools: &mut Tools) -> Result<Stop, Closing> {
        let link = &mut *parts.link;
        let was_idle = self.exchange.is_idle() && link.client_has_all();
        loop {
            match link.flush_down(&mut tools.pipes) {
                Ok(true) => {}
                Ok(false) => return Ok(Stop::Blocked),
                Err(_) => return Err(Closing::Now(End::ClientReset)),
            }
            let over = self.exchange.is_over() || self.exchange.is_opaque();
            if over || (self.exchange.is_idle() && !was_idle) {
                return Ok(Stop::Limit);
            }
            if tools.budget == 0 {
                return Ok(Stop::Budget);
            }
            let opaque = self.exchange.opaque_down();
            if opaque > 0 {
                match self.pump_down(link, parts.session, opaque, tools)? {
                    Stop::Limit => {}
                    stop => return Ok(stop),
                }
            } else if !self.read_response(link, parts.session, tools)? {
                return Ok(Stop::Blocked);
            }
        }
    }

    fn pump_down(
        &mut self,
        link: &mut Link,
        session: &Session,
        limit: u64,
        tools: &mut Tools,
    ) -> Result<Stop, Closing> {
        let (moved, stop) = link.pump_down(limit, tools);
        self.exchange.passed_down(moved);
        match stop {
            Ok(Stop::Ended) => Err(self.backend_ended(link, session)),
            Ok(stop) => Ok(stop),
            Err(Broken::Source) => Err(Closing::Now(End::BackendReset)),
            Err(Broken::Sink) => Err(Closing::Now(End::ClientReset)),
        }
    }

    /// Reads the backend's bytes that must be parsed; returns false if the backend has sent no more.
    fn read_response(
        &mut self,
        link: &mut Link,
        session: &Session,
        tools: &mut Tools,
    ) -> Result<bool, Closing> {
        match link.read_backend(tools) {
            Ok(Read::Bytes(count)) => {
                self.parse_response(link, &tools.scratch[..count])?;
                Ok(true)
            }
            Ok(Read::Nothing) => Ok(false),
            Ok(Read::End) => Err(self.backend_ended(link, session)),
            Err(_) => Err(self.backend_broke(link, session)),
        }
    }

    fn parse_response(&mut self, link: &mut Link, bytes: &[u8]) -> Result<(), Closing> {
        let whole;
        let mut rest = bytes;
        if !self.kept.is_empty() {
            let mut kept = std::mem::take(&mut self.kept);
            kept.extend_from_slice(rest);
            whole = kept;
            rest = &whole;
        }
        // Good bytes are held back until all are read, so that an error behind a head can still
        // become an answer.
        let refusal = self.bad_response(link);
        let all = rest;
        while !rest.is_empty() {
            match self.exchange.backend(rest) {
                Ok(FromBackend::Forward(count)) => {
                    rest = &rest[count..];
                    // The client has not asked for anything after the last response.
                    if self.exchange.is_over() {
                        break;
                    }
                }
                Ok(FromBackend::More) => {
                    self.kept = rest.to_vec();
                    break;
                }
                Err(_) => return Err(refusal),
            }
        }
        link.push_down(&all[..all.len() - rest.len()]);
        Ok(())
    }

    /// Closes after an invalid response, or after bytes without a request.
    fn bad_response(&self, link: &Link) -> Closing {
        let unasked = self.exchange.is_idle();
        if unasked || !link.client_has_all() || !self.exchange.can_answer() {
            return Closing::Now(End::BadAnswer);
        }
        self.refuse(Refusal::BadGateway, End::BadAnswer)
    }

    /// Closes after the orderly end of the backend's connection.
    fn backend_ended(&self, link: &Link, session: &Session) -> Closing {
        if self.exchange.may_end() {
            return Closing::Delivered(End::Done);
        }
        self.backend_broke(link, session)
    }

    /// Closes after the backend's connection ended in the middle of a response.
    fn backend_broke(&self, link: &Link, session: &Session) -> Closing {
        if !self.exchange.is_idle() && self.exchange.can_answer() && link.client_has_all() {
            return self.unreachable(session, End::BackendReset);
        }
        Closing::Now(End::BackendReset)
    }

    /// Answers that no backend could be reached.
    pub(super) fn unreachable(&self, session: &Session, end: End) -> Closing {
        session.count_unreachable();
        self.refuse(Refusal::BadGateway, end)
    }

    /// Refuses the request that is being read or answered.
    pub(super) fn refuse(&self, refusal: Refusal, end: End) -> Closing {
        Closing::refuse(refusal, self.exchange.is_to_head(), end)
    }

    /// Ends a connection whose deadline has passed, with an answer if one is still possible.
    pub(super) fn timeout(&self, link: &Link, end: End) -> Closing {
        let refusal = match end {
            End::HelloTimeout => Refusal::Timeout,
            End::IdleTimeout if !self.exchange.is_idle() => Refusal::GatewayTimeout,
            _ => return Closing::Now(end),
        };
        if !self.exchange.can_answer() || !link.client_has_all() {
            return Closing::Now(end);
        }
        self.refuse(refusal, end)
    }

    /// Makes the response that is under way the last one, or ends an idle connection.
    pub(super) fn finish(&mut self) {
        self.exchange.finish();
    }

    /// Returns the moment at which an incomplete head was first seen.
    pub(super) const fn head_since(&self) -> Option<u64> {
        self.head_since
    }
}
