//! To a backend: one address after another, within the deadline for all of them together.

use std::net::SocketAddr;
use std::sync::atomic::Ordering;

use rustix::event::epoll::{self, EventFlags};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SendFlags, SocketFlags, SocketType, connect, getsockname, send, socket_with,
    sockopt,
};

use super::connection::{Connection, End, Phase};
use super::dial::{Dial, Order, SUSPECT_TIME, order};
use super::flow::Side;
use super::{Step, Worker};
use crate::http::Refusal;
use crate::limits::Seldom;
use crate::proxy;

static NO_BACKEND: Seldom = Seldom::new();

impl Worker {
    /// Begins the way of a routed connection; `first` is what the client has sent.
    pub(super) fn dial(&mut self, connection: &mut Connection, index: u32, first: Vec<u8>) -> Step {
        let Some((route, config)) = connection.route() else { return Step::Close(End::NoBackend) };
        route.counters.connections.fetch_add(1, Ordering::Relaxed);
        let first = match config.proxy_out {
            Some(version) => {
                let to = destination(connection);
                let name = connection.name.as_deref();
                let mut all = proxy::header(version, connection.addresses.client, to, name);
                all.extend(first);
                all
            }
            None => first,
        };
        let until = self.now + connection.config().timeouts.connect;
        connection.dial = Some(Box::new(Dial {
            candidates: Vec::new(),
            next: 0,
            until,
            this_until: until,
            first,
            sent: 0,
        }));
        self.dial_again(connection, index)
    }

    /// Looks which backends there are; waits if DNS has not said.
    pub(super) fn dial_again(&mut self, connection: &mut Connection, index: u32) -> Step {
        let Some((route, config)) = connection.route() else { return Step::Close(End::NoBackend) };
        match order(route, config.policy, self.now) {
            Order::Try(candidates) => {
                if let Some(dial) = &mut connection.dial {
                    dial.candidates = candidates;
                }
                self.try_next(connection, index)
            }
            Order::Wait => {
                connection.phase = Phase::Resolve;
                self.parked.push(index);
                Step::Wait
            }
            Order::Nothing => self.no_backend(connection),
        }
    }

    /// Tries addresses until one does not fail at once.
    pub(super) fn try_next(&mut self, connection: &mut Connection, index: u32) -> Step {
        connection.backend = None;
        connection.phase = Phase::Connect;
        loop {
            let Some(dial) = &mut connection.dial else { return Step::Close(End::NoBackend) };
            let Some((target, address)) = dial.candidates.get(dial.next).copied() else {
                return self.no_backend(connection);
            };
            dial.next += 1;
            dial.sent = 0;
            dial.this_until = dial.try_until(self.now);
            connection.target = Some(target);
            match self.open_backend(address, index, connection.generation) {
                Ok(backend) => {
                    connection.backend = Some(backend);
                    // Over loopback it is connected already, and on a network a try costs little.
                    connection.backend_side = Side { writable: true, ..Side::default() };
                    return Step::Next;
                }
                Err(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => {
                    return self.no_backend(connection);
                }
                Err(_) => {}
            }
        }
    }

    fn open_backend(
        &self,
        address: SocketAddr,
        index: u32,
        generation: u32,
    ) -> Result<OwnedFd, Errno> {
        let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = socket_with(family, SocketType::STREAM, flags, None)?;
        sockopt::set_tcp_nodelay(&socket, true)?;
        sockopt::set_socket_keepalive(&socket, true)?;
        match connect(&socket, &address) {
            Ok(()) | Err(Errno::INPROGRESS) => {}
            Err(errno) => return Err(errno),
        }
        let flags = EventFlags::IN | EventFlags::RDHUP | EventFlags::ET;
        epoll::add(&self.epoll, &socket, Self::data(index, generation, true), flags)?;
        Ok(socket)
    }

    /// Sends the first bytes; a socket that is not connected yet takes none.
    pub(super) fn connecting(&mut self, connection: &mut Connection, index: u32) -> Step {
        let (Some(dial), Some(backend)) = (&mut connection.dial, &connection.backend) else {
            return Step::Close(End::NoBackend);
        };
        if !connection.backend_side.writable {
            return Step::Wait;
        }
        match send(backend, &dial.first[dial.sent..], SendFlags::NOSIGNAL) {
            Ok(count) => {
                dial.sent += count;
                self.connected(connection);
                Step::Next
            }
            Err(Errno::AGAIN | Errno::INPROGRESS | Errno::NOTCONN) => {
                connection.backend_side.writable = false;
                Step::Wait
            }
            Err(Errno::INTR) => Step::Next,
            Err(_) => self.try_next(connection, index),
        }
    }

    /// The backend has accepted, and some bytes have gone to it.
    fn connected(&mut self, connection: &mut Connection) {
        let Some(dial) = &mut connection.dial else { return };
        connection.up.total += dial.sent as u64;
        let rest = dial.first.split_off(dial.sent);
        connection.up.push(&rest);
        dial.first.extend(rest);
        connection.phase = Phase::Relay;
        connection.active = self.now;
        // A request may be sent once; a hello again, until the backend has answered.
        if connection.web.is_some() {
            connection.dial = None;
        }
    }

    /// The backend ended before it said a byte: another one may have this hello, if the client has
    /// sent nothing else.
    pub(super) fn retry(&mut self, connection: &mut Connection, index: u32) -> Option<Step> {
        let dial = connection.dial.as_ref()?;
        let untouched = connection.up.total <= dial.first.len() as u64 && !connection.up.ended;
        if !untouched
            || connection.down.total > 0
            || dial.next >= dial.candidates.len()
            || self.now >= dial.until
        {
            return None;
        }
        connection.up.clear(&mut self.tools.pipes);
        connection.up.total = 0;
        connection.down.ended = false;
        Some(self.try_next(connection, index))
    }

    fn no_backend(&mut self, connection: &mut Connection) -> Step {
        if let (Some((route, _)), Some(more)) = (connection.route(), NO_BACKEND.pass(self.now)) {
            tracing::warn!(route = route.label, more, "no backend could be reached");
        }
        self.unreachable(connection, End::NoBackend)
    }

    /// A connection's time is over.
    pub(super) fn timeout(&mut self, connection: &mut Connection, index: u32) -> Step {
        let end = connection.timeout(self.now);
        match (&connection.phase, end) {
            (Phase::Connect, End::ConnectTimeout) => {
                self.suspect(connection);
                let until = connection.dial.as_ref().map_or(0, |dial| dial.until);
                if until > self.now {
                    self.try_next(connection, index)
                } else {
                    self.no_backend(connection)
                }
            }
            (Phase::Resolve, End::ConnectTimeout) => self.no_backend(connection),
            (Phase::Head, End::HelloTimeout) if !connection.buffer.is_empty() => {
                self.refuse(connection, Refusal::Timeout, end)
            }
            (Phase::Relay, _) if connection.web.is_some() => self.web_timeout(connection, end),
            _ => Step::Close(end),
        }
    }

    /// A backend that let a try pass without a word comes last for a while.
    fn suspect(&self, connection: &Connection) {
        let backend = connection
            .route()
            .and_then(|(route, _)| route.backends.get(usize::from(connection.target?)));
        if let Some(backend) = backend {
            backend.suspect_until.store(self.now + SUSPECT_TIME, Ordering::Relaxed);
        }
    }
}

/// What the client connected to.
fn destination(connection: &Connection) -> SocketAddr {
    if let Some(address) = &connection.addresses.destination {
        return **address;
    }
    let own = getsockname(&connection.client).ok().and_then(|own| SocketAddr::try_from(own).ok());
    own.unwrap_or_else(|| connection.config().address)
}
