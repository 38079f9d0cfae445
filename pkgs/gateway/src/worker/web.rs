//! A connection whose every request is looked at: HTTP, until a backend answers 101.

use rustix::fd::AsFd as _;
use rustix::io::Errno;

use super::connection::{Connection, End};
use super::flow::{Broken, Stop};
use super::{Step, Worker};
use crate::http::exchange::{Exchange, FromBackend, FromClient};
use crate::http::head::Head;
use crate::http::rewrite::{self, Changes};
use crate::http::{Refusal, answer};

/// What HTTP needs of a connection.
#[derive(Debug, Default)]
pub(super) struct Web {
    pub(super) exchange: Exchange,
    /// Since when a later request's head is under way.
    pub(super) head_since: Option<u64>,
    /// Bytes of the backend that make no whole head yet.
    kept: Vec<u8>,
}

impl Web {
    /// Appends a head to `out` as its route wants it, and takes it out of the buffer.
    pub(super) fn forward(
        connection: &mut Connection,
        route: usize,
        head: &Head,
        last: bool,
        out: &mut Vec<u8>,
    ) {
        let config = &connection.snapshot.config.routes[route];
        let peer = connection.addresses.client.ip();
        let trusted = connection
            .config()
            .trusted
            .iter()
            .any(|network| network.contains(connection.addresses.peer.ip()));
        let changes = Changes {
            drop_forwarded: !trusted,
            set_forwarded: config.forwarded.then_some(peer),
            close: config.close || last,
        };
        let close = config.close || last;
        rewrite::forward(&connection.buffer, head, changes, out);
        connection.buffer.drain(..head.length);
        connection.seen = 0;
        if let Some(web) = &mut connection.web {
            web.exchange.begin(head, close);
            web.head_since = None;
        }
    }
}

impl Worker {
    /// Moves bytes in both directions, as far as requests and answers go.
    pub(super) fn relay_web(&mut self, connection: &mut Connection) -> Step {
        let up = self.web_up(connection);
        if let Some(step) = up.err().or_else(|| connection.web.is_none().then_some(Step::Next)) {
            return step;
        }
        let down = self.web_down(connection);
        let Some(web) = &mut connection.web else { return Step::Next };
        match (up, down) {
            (_, Err(step)) | (Err(step), _) => step,
            _ if web.exchange.is_opaque() => {
                let kept = std::mem::take(&mut web.kept);
                connection.down.push(&kept);
                connection.web = None;
                let buffer = std::mem::take(&mut connection.buffer);
                connection.up.push(&buffer);
                Step::Next
            }
            _ if web.exchange.is_over() && connection.down.is_empty() => {
                self.part(connection, End::Done)
            }
            // The answer is whole, and the next request may be here already.
            (Ok(Stop::Limit), _) | (_, Ok(Stop::Limit)) => Step::Next,
            (Ok(Stop::Budget), _) | (_, Ok(Stop::Budget)) => Step::Again,
            _ => Step::Wait,
        }
    }

    /// From client to backend. `Limit` means that the state has changed.
    fn web_up(&mut self, connection: &mut Connection) -> Result<Stop, Step> {
        loop {
            if !self.flush_up(connection)? {
                return Ok(Stop::Blocked);
            }
            if self.tools.budget == 0 {
                return Ok(Stop::Budget);
            }
            let Some(web) = &connection.web else { return Ok(Stop::Limit) };
            // A later request is looked at when the answer before it is delivered: it may get one of
            // the gateway's own.
            let early = web.exchange.is_idle() && !connection.down.is_empty();
            if early || !web.exchange.wants_client() {
                return Ok(Stop::Blocked);
            }
            let opaque = web.exchange.opaque_up();
            if connection.buffer.is_empty() && opaque > 0 {
                match self.pump_up(connection, opaque)? {
                    Stop::Limit => continue,
                    stop => return Ok(stop),
                }
            }
            if connection.buffer.len() <= connection.seen && !self.read_more(connection)? {
                return Ok(Stop::Blocked);
            }
            self.look_up(connection)?;
        }
    }

    fn flush_up(&mut self, connection: &mut Connection) -> Result<bool, Step> {
        let Some(backend) = &connection.backend else { return Err(Step::Close(End::Done)) };
        let side = &mut connection.backend_side;
        if let Ok(done) = connection.up.flush(backend.as_fd(), side, &mut self.tools.pipes) {
            return Ok(done);
        }
        // It may have answered before it stopped to listen.
        connection.up.clear(&mut self.tools.pipes);
        connection.backend_side.readable = true;
        Ok(true)
    }

    fn pump_up(&mut self, connection: &mut Connection, limit: u64) -> Result<Stop, Step> {
        let Some(backend) = &connection.backend else { return Err(Step::Close(End::Done)) };
        let (client, backend) = (connection.client.as_fd(), backend.as_fd());
        let Connection { client_side, backend_side, up, .. } = connection;
        let (moved, stop) =
            up.pump((client, client_side), (backend, backend_side), limit, &mut self.tools);
        if moved > 0 {
            connection.active = self.now;
        }
        if let Some(web) = &mut connection.web {
            web.exchange.passed_up(moved);
        }
        match stop {
            Ok(Stop::Ended) => Err(Step::Close(End::ClientGone)),
            Ok(stop) => Ok(stop),
            Err(Broken::Source) => Err(Step::Close(End::ClientReset)),
            Err(Broken::Sink) => {
                connection.backend_side.readable = true;
                Ok(Stop::Blocked)
            }
        }
    }

    /// Reads into the buffer; false if nothing is there.
    fn read_more(&mut self, connection: &mut Connection) -> Result<bool, Step> {
        if !connection.client_side.readable {
            return Ok(false);
        }
        self.tools.budget -= 1;
        match rustix::io::read(&connection.client, &mut self.tools.scratch[..]) {
            Ok(0) => Err(Step::Close(if connection.buffer.is_empty() {
                End::Done
            } else {
                End::ClientGone
            })),
            Ok(count) => {
                let full = count == self.tools.scratch.len();
                connection.client_side.readable = full || connection.client_side.ending;
                connection.buffer.extend_from_slice(&self.tools.scratch[..count]);
                connection.active = self.now;
                Ok(true)
            }
            Err(Errno::AGAIN) => {
                connection.client_side.readable = false;
                Ok(false)
            }
            Err(Errno::INTR) => Ok(true),
            Err(_) => Err(Step::Close(End::ClientReset)),
        }
    }

    /// Looks at the buffer.
    fn look_up(&mut self, connection: &mut Connection) -> Result<(), Step> {
        let now = self.now;
        connection.seen = connection.buffer.len();
        let Some(web) = &mut connection.web else { return Ok(()) };
        match web.exchange.client(&connection.buffer) {
            Ok(FromClient::More) => {
                web.head_since.get_or_insert(now);
                Ok(())
            }
            Ok(FromClient::Wait) => Ok(()),
            Ok(FromClient::Skip(count)) => {
                connection.buffer.drain(..count);
                connection.seen = 0;
                Ok(())
            }
            Ok(FromClient::Forward(count)) => {
                connection.up.push(&connection.buffer[..count]);
                connection.buffer.drain(..count);
                connection.seen = 0;
                if connection.buffer.is_empty() {
                    connection.buffer = Vec::new();
                }
                Ok(())
            }
            Ok(FromClient::Head(head)) => self.later_request(connection, &head),
            Err(refusal) => Err(self.refuse_later(connection, refusal)),
        }
    }

    /// A request after the first one goes to the same backend, or nowhere.
    fn later_request(&mut self, connection: &mut Connection, head: &Head) -> Result<(), Step> {
        let listener = usize::from(connection.listener);
        let found = connection.snapshot.table.find(listener, Some(&head.host.host), b"");
        let refusal = match found {
            None => Refusal::NotFound,
            Some(route) if connection.snapshot.config.routes[route].redirect => {
                let path = &connection.buffer[head.path.clone()];
                let bytes = answer::redirect(&head.host.host, path, head.is_head);
                return Err(self.answer(connection, &bytes, End::Redirected));
            }
            Some(route) => match same_backend(connection, route) {
                Some(target) => {
                    (connection.route, connection.target) =
                        (u32::try_from(route).ok(), Some(target));
                    let mut out = Vec::new();
                    Web::forward(connection, route, head, self.draining, &mut out);
                    connection.up.push(&out);
                    return Ok(());
                }
                None => Refusal::Misdirected,
            },
        };
        Err(self.answer(connection, &answer::refusal(refusal, head.is_head), End::Refused))
    }

    fn refuse_later(&mut self, connection: &mut Connection, refusal: Refusal) -> Step {
        let can = connection.web.as_ref().is_some_and(|web| web.exchange.can_answer());
        if can && connection.down.is_empty() {
            return self.refuse(connection, refusal, End::Refused);
        }
        Step::Close(End::BackendReset)
    }

    /// From backend to client. `Limit` means that the state has changed.
    fn web_down(&mut self, connection: &mut Connection) -> Result<Stop, Step> {
        let was_idle = is_idle(connection) && connection.down.is_empty();
        loop {
            let client = connection.client.as_fd();
            let side = &mut connection.client_side;
            match connection.down.flush(client, side, &mut self.tools.pipes) {
                Ok(true) => {}
                Ok(false) => return Ok(Stop::Blocked),
                Err(_) => return Err(Step::Close(End::ClientReset)),
            }
            let Some(web) = &connection.web else { return Ok(Stop::Limit) };
            let over = web.exchange.is_over() || web.exchange.is_opaque();
            if over || (is_idle(connection) && !was_idle) {
                return Ok(Stop::Limit);
            }
            if self.tools.budget == 0 {
                return Ok(Stop::Budget);
            }
            let opaque = web.exchange.opaque_down();
            if opaque > 0 {
                match self.pump_down(connection, opaque)? {
                    Stop::Limit => {}
                    stop => return Ok(stop),
                }
            } else if !self.read_answer(connection)? {
                return Ok(Stop::Blocked);
            }
        }
    }

    fn pump_down(&mut self, connection: &mut Connection, limit: u64) -> Result<Stop, Step> {
        let Some(backend) = &connection.backend else { return Err(Step::Close(End::Done)) };
        let (backend, client) = (backend.as_fd(), connection.client.as_fd());
        let Connection { client_side, backend_side, down, .. } = connection;
        let (moved, stop) =
            down.pump((backend, backend_side), (client, client_side), limit, &mut self.tools);
        if moved > 0 {
            connection.active = self.now;
        }
        if let Some(web) = &mut connection.web {
            web.exchange.passed_down(moved);
        }
        match stop {
            Ok(Stop::Ended) => Err(self.backend_ended(connection)),
            Ok(stop) => Ok(stop),
            Err(Broken::Source) => Err(Step::Close(End::BackendReset)),
            Err(Broken::Sink) => Err(Step::Close(End::ClientReset)),
        }
    }

    /// Reads of the backend what has to be looked at; false if nothing is there.
    fn read_answer(&mut self, connection: &mut Connection) -> Result<bool, Step> {
        let Some(backend) = &connection.backend else { return Err(Step::Close(End::Done)) };
        if !connection.backend_side.readable {
            return Ok(false);
        }
        self.tools.budget -= 1;
        match rustix::io::read(backend, &mut self.tools.scratch[..]) {
            Ok(0) => Err(self.backend_ended(connection)),
            Ok(count) => {
                let full = count == self.tools.scratch.len();
                connection.backend_side.readable = full || connection.backend_side.ending;
                connection.active = self.now;
                self.look_down(connection, count)?;
                Ok(true)
            }
            Err(Errno::AGAIN) => {
                connection.backend_side.readable = false;
                Ok(false)
            }
            Err(Errno::INTR) => Ok(true),
            Err(_) => Err(self.backend_broke(connection)),
        }
    }

    /// Looks at what the backend said: `count` bytes of the shared buffer.
    fn look_down(&mut self, connection: &mut Connection, count: usize) -> Result<(), Step> {
        let Connection { web: Some(web), down, .. } = connection else { return Ok(()) };
        let whole;
        let mut rest = &self.tools.scratch[..count];
        if !web.kept.is_empty() {
            let mut kept = std::mem::take(&mut web.kept);
            kept.extend_from_slice(rest);
            whole = kept;
            rest = &whole;
        }
        while !rest.is_empty() {
            match web.exchange.backend(rest) {
                Ok(FromBackend::Forward(count)) => {
                    down.push(&rest[..count]);
                    rest = &rest[count..];
                    // Behind the last answer there is nothing that anybody asked for.
                    if web.exchange.is_over() {
                        return Ok(());
                    }
                }
                Ok(FromBackend::More) => {
                    web.kept = rest.to_vec();
                    return Ok(());
                }
                Err(_) => return Err(self.bad_answer(connection)),
            }
        }
        Ok(())
    }

    /// The backend sent what is no answer, or what nobody asked for.
    fn bad_answer(&mut self, connection: &mut Connection) -> Step {
        let Some(web) = &connection.web else { return Step::Close(End::BadAnswer) };
        if web.exchange.is_idle() || !connection.down.is_empty() || !web.exchange.can_answer() {
            return Step::Close(End::BadAnswer);
        }
        self.refuse(connection, Refusal::BadGateway, End::BadAnswer)
    }

    /// The backend's connection ended in order.
    fn backend_ended(&mut self, connection: &mut Connection) -> Step {
        let Some(web) = &connection.web else { return Step::Close(End::Done) };
        if web.exchange.may_end() {
            return self.part(connection, End::Done);
        }
        self.backend_broke(connection)
    }

    /// The backend ended in the middle of something.
    fn backend_broke(&mut self, connection: &mut Connection) -> Step {
        let Some(web) = &connection.web else { return Step::Close(End::BackendReset) };
        if web.exchange.is_idle() {
            return Step::Close(End::BackendReset);
        }
        if web.exchange.can_answer() && connection.down.is_empty() {
            return self.unreachable(connection, End::BackendReset);
        }
        Step::Close(End::BackendReset)
    }

    /// An HTTP connection's time is over.
    pub(super) fn web_timeout(&mut self, connection: &mut Connection, end: End) -> Step {
        let Some(web) = &connection.web else { return Step::Close(end) };
        let refusal = match end {
            End::HelloTimeout => Refusal::Timeout,
            End::IdleTimeout if !web.exchange.is_idle() => Refusal::GatewayTimeout,
            _ => return Step::Close(end),
        };
        if !web.exchange.can_answer() || !connection.down.is_empty() {
            return Step::Close(end);
        }
        self.refuse(connection, refusal, end)
    }
}

/// Between requests.
fn is_idle(connection: &Connection) -> bool {
    connection.web.as_ref().is_some_and(|web| web.exchange.is_idle())
}

/// The index that a connection's backend has in a route, if the route may use its connection: it
/// has the backend too, and the backend was told of the client in the same way.
fn same_backend(connection: &Connection, route: usize) -> Option<u16> {
    let (now, config) = connection.route()?;
    let backend = &now.backends.get(usize::from(connection.target?))?.backend;
    let (snapshot, next) = (&connection.snapshot, connection.snapshot.routes.get(route)?);
    let same_proxy = snapshot.config.routes[route].proxy_out == config.proxy_out;
    let found = next.backends.iter().position(|state| state.backend == *backend)?;
    u16::try_from(found).ok().filter(|_| same_proxy)
}
