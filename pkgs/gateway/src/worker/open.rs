//! The beginning of a connection: PROXY header, `ClientHello` or request head, route.

use std::sync::atomic::Ordering;

use rustix::io::Errno;

use super::connection::{Connection, DRAIN_BYTES, DRAIN_TIME, End, Phase};
use super::web::Web;
use super::{Step, Worker};
use crate::http::exchange::FromClient;
use crate::http::{Refusal, answer};
use crate::proxy;
use crate::tls::hello::Name;
use crate::tls::{self, Alert};

impl Worker {
    /// Sees to it that the buffer has bytes that nobody has looked at; or what to do without.
    fn fill(&mut self, connection: &mut Connection) -> Result<(), Step> {
        if connection.buffer.len() <= connection.seen {
            if !connection.client_side.readable {
                return Err(Step::Wait);
            }
            match rustix::io::read(&connection.client, &mut self.tools.scratch[..]) {
                Ok(0) => return Err(Step::Close(End::ClientGone)),
                Ok(count) => {
                    let full = count == self.tools.scratch.len();
                    connection.client_side.readable = full || connection.client_side.ending;
                    connection.buffer.extend_from_slice(&self.tools.scratch[..count]);
                }
                Err(Errno::AGAIN) => {
                    connection.client_side.readable = false;
                    return Err(Step::Wait);
                }
                Err(Errno::INTR) => return Err(Step::Next),
                Err(_) => return Err(Step::Close(End::ClientReset)),
            }
        }
        connection.seen = connection.buffer.len();
        Ok(())
    }

    pub(super) fn read_proxy(&mut self, connection: &mut Connection) -> Step {
        if let Err(step) = self.fill(connection) {
            return step;
        }
        match proxy::parse(&connection.buffer) {
            Ok(None) => Step::Next,
            Ok(Some(header)) => {
                connection.buffer.drain(..header.length);
                connection.seen = 0;
                if let Some((from, to)) = header.addresses {
                    connection.addresses.client = from;
                    connection.addresses.destination = Some(Box::new(to));
                }
                connection.phase = connection.first_phase();
                Step::Next
            }
            Err(proxy::Malformed) => Step::Close(End::BadProxy),
        }
    }

    pub(super) fn read_hello(&mut self, connection: &mut Connection, index: u32) -> Step {
        if let Err(step) = self.fill(connection) {
            return step;
        }
        let Phase::Hello(scan) = &mut connection.phase else { return Step::Wait };
        match scan.look(&connection.buffer) {
            Ok(None) => Step::Next,
            Ok(Some(hello)) => self.route_tls(connection, index, &hello),
            Err(tls::hello::Garbage) if is_request(&connection.buffer) => {
                self.answer(connection, &answer::plain_on_tls(), End::Garbage)
            }
            Err(tls::hello::Garbage) => Step::Close(End::Garbage),
        }
    }

    fn route_tls(
        &mut self,
        connection: &mut Connection,
        index: u32,
        hello: &tls::hello::Hello,
    ) -> Step {
        let listener = usize::from(connection.listener);
        let route = match &hello.name {
            Name::Known(name) => {
                connection.name = Some(name.as_str().into());
                connection.snapshot.table.find(listener, Some(name), &hello.alpn)
            }
            Name::Absent => connection.snapshot.table.find(listener, None, &hello.alpn),
            Name::Invalid => None,
        };
        match route {
            Some(route) => {
                connection.route = u32::try_from(route).ok();
                let first = std::mem::take(&mut connection.buffer);
                self.dial(connection, index, first)
            }
            None => self.answer(connection, &tls::fatal(Alert::UnrecognizedName), End::UnknownName),
        }
    }

    pub(super) fn read_head(&mut self, connection: &mut Connection, index: u32) -> Step {
        if let Err(step) = self.fill(connection) {
            return step;
        }
        let web = connection.web.get_or_insert_default();
        match web.exchange.client(&connection.buffer) {
            Ok(FromClient::More) => Step::Next,
            Ok(FromClient::Skip(count)) => {
                connection.buffer.drain(..count);
                connection.seen = 0;
                Step::Next
            }
            Ok(FromClient::Head(head)) => self.route_http(connection, index, &head),
            Ok(FromClient::Forward(_) | FromClient::Wait) => Step::Close(End::Refused),
            Err(refusal) => self.refuse(connection, refusal, End::Refused),
        }
    }

    fn route_http(
        &mut self,
        connection: &mut Connection,
        index: u32,
        head: &crate::http::head::Head,
    ) -> Step {
        let listener = usize::from(connection.listener);
        connection.name = Some(head.host.host.as_str().into());
        let found = connection.snapshot.table.find(listener, Some(&head.host.host), b"");
        let Some(route) = found else {
            return self.answer(
                connection,
                &answer::refusal(Refusal::NotFound, head.is_head),
                End::UnknownName,
            );
        };
        connection.route = u32::try_from(route).ok();
        if connection.snapshot.config.routes[route].redirect {
            let path = &connection.buffer[head.path.clone()];
            let bytes = answer::redirect(&head.host.host, path, head.is_head);
            return self.answer(connection, &bytes, End::Redirected);
        }
        let mut first = Vec::new();
        Web::forward(connection, route, head, self.draining, &mut first);
        self.dial(connection, index, first)
    }

    /// Answers a request that is refused.
    pub(super) fn refuse(
        &mut self,
        connection: &mut Connection,
        refusal: Refusal,
        end: End,
    ) -> Step {
        let to_head = connection.web.as_ref().is_some_and(|web| web.exchange.is_to_head());
        self.answer(connection, &answer::refusal(refusal, to_head), end)
    }

    /// Sends the gateway's own last words, and lets the client close.
    pub(super) fn answer(&mut self, connection: &mut Connection, bytes: &[u8], end: End) -> Step {
        connection.backend = None;
        connection.dial = None;
        connection.web = None;
        connection.buffer = Vec::new();
        connection.up.clear(&mut self.tools.pipes);
        connection.down.clear(&mut self.tools.pipes);
        connection.down.push(bytes);
        connection.down.ended = true;
        self.part(connection, end)
    }

    /// Lets the client close after all that is on its way to it.
    pub(super) fn part(&mut self, connection: &mut Connection, end: End) -> Step {
        connection.end = end;
        connection.backend = None;
        connection.down.ended = true;
        connection.phase = Phase::Drain { left: DRAIN_BYTES, until: self.now + DRAIN_TIME };
        Step::Next
    }

    /// Nothing more can be done for a routed connection: says so as its protocol has it.
    pub(super) fn unreachable(&mut self, connection: &mut Connection, end: End) -> Step {
        if let Some((route, _)) = connection.route() {
            route.counters.unreachable.fetch_add(1, Ordering::Relaxed);
        }
        if connection.web.is_some() {
            return self.refuse(connection, Refusal::BadGateway, end);
        }
        self.answer(connection, &tls::fatal(Alert::InternalError), end)
    }
}

/// Whether this is the beginning of an HTTP request: a method and a blank, as far as it goes.
fn is_request(bytes: &[u8]) -> bool {
    let method = bytes.iter().take(8).take_while(|byte| byte.is_ascii_uppercase()).count();
    let next = bytes.get(method);
    method > 0 && next.is_none_or(|byte| *byte == b' ') && method < 8
}

#[cfg(test)]
mod tests {
    use super::is_request;

    #[test]
    fn a_request_is_told_from_other_garbage() {
        for good in ["G", "GET", "GET / HTTP/1.1\r\n", "OPTIONS * "] {
            assert!(is_request(good.as_bytes()), "{good}");
        }
        for bad in ["", "SSH-2.0", "get / ", "\0", " GET", "ABCDEFGHIJ"] {
            assert!(!is_request(bad.as_bytes()), "{bad}");
        }
    }
}
