//! The two sockets of a connection and the bytes between them.

use std::net::SocketAddr;

use rustix::event::epoll::{self, EventFlags};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::{getsockname, sockopt};

use super::end::End;
use super::flow::{Broken, Flow, Stop};
use super::inbox::{Fill, Inbox};
use super::pipes::Pipes;
use super::socket::{ALWAYS, Read, Socket};
use super::tools::Tools;
use crate::net;

/// A connection as epoll knows it.
///
/// The generation tells a connection from an earlier one with the same index, so that an event of a
/// connection that ended in the same round is ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) index: u32,
    pub(super) generation: u32,
}

/// One of a connection's sockets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Client,
    Backend,
    /// An earlier attempt to connect to a backend.
    Trial,
}

impl Key {
    /// The smallest number by which epoll reports a connection; listeners have smaller numbers.
    pub(super) const FIRST: u64 = 1 << 32;

    /// Returns the number by which epoll reports one of the sockets.
    const fn data(self, side: Side) -> epoll::EventData {
        let side = match side {
            Side::Client => 0,
            Side::Backend => 1,
            Side::Trial => 2,
        };
        epoll::EventData::new_u64((self.generation as u64) << 32 | (self.index as u64) << 2 | side)
    }

    /// Parses a number that epoll reported.
    pub(super) fn parse(data: u64) -> (Self, Side) {
        let index = u32::try_from(data >> 2 & 0x3fff_ffff).unwrap_or(u32::MAX);
        let generation = u32::try_from(data >> 32).unwrap_or(0);
        let side = match data & 3 {
            0 => Side::Client,
            1 => Side::Backend,
            _ => Side::Trial,
        };
        (Self { index, generation }, side)
    }
}

/// Client, backend, and a flow in each direction.
#[derive(Debug)]
pub(super) struct Link {
    key: Key,
    client: Socket,
    backend: Option<Socket>,
    /// From the client to the backend.
    up: Flow,
    /// From the backend to the client.
    down: Flow,
    /// True once the client's socket is in the epoll.
    registered: bool,
    /// The moment at which a byte last moved, in milliseconds.
    active: u64,
}

impl Link {
    pub(super) fn new(client: OwnedFd, key: Key, now: u64) -> Self {
        Self {
            key,
            client: Socket::accepted(client),
            backend: None,
            up: Flow::default(),
            down: Flow::default(),
            registered: false,
            active: now,
        }
    }

    pub(super) const fn key(&self) -> Key {
        self.key
    }

    /// Records an event of one of the sockets.
    pub(super) const fn event(&mut self, side: Side, flags: EventFlags) {
        match (side, &mut self.backend) {
            (Side::Client, _) => self.client.event(flags),
            (Side::Backend, Some(backend)) => backend.event(flags),
            (Side::Backend, None) | (Side::Trial, _) => {}
        }
    }

    /// Makes epoll report the client's socket, and full sockets when they can be written to again.
    pub(super) fn register(&mut self, epoll: &OwnedFd) -> rustix::io::Result<()> {
        if !self.registered {
            epoll::add(epoll, &self.client, self.key.data(Side::Client), ALWAYS)?;
            self.registered = true;
        }
        self.client.arm(epoll, self.key.data(Side::Client))?;
        match &mut self.backend {
            Some(backend) => backend.arm(epoll, self.key.data(Side::Backend)),
            None => Ok(()),
        }
    }

    /// Begins to connect to a backend, replacing the current one.
    pub(super) fn connect(&mut self, address: SocketAddr, epoll: &OwnedFd) -> Result<(), Errno> {
        self.backend = None;
        let socket = connecting(address)?;
        epoll::add(epoll, &socket, self.key.data(Side::Backend), ALWAYS)?;
        self.backend = Some(Socket::connecting(socket));
        Ok(())
    }

    /// Closes the socket of the backend.
    pub(super) fn drop_backend(&mut self) {
        self.backend = None;
    }

    /// Takes the socket of the backend away, which may still connect, and reports it as a trial.
    pub(super) fn set_aside(&mut self, epoll: &OwnedFd) -> Option<Socket> {
        let backend = self.backend.take()?;
        let events = ALWAYS | EventFlags::OUT;
        epoll::modify(epoll, &backend, self.key.data(Side::Trial), events).ok()?;
        Some(backend)
    }

    /// Makes a trial that is connected the backend.
    pub(super) fn adopt(&mut self, trial: Socket, epoll: &OwnedFd) -> Result<(), Errno> {
        epoll::modify(epoll, &trial, self.key.data(Side::Backend), ALWAYS)?;
        self.backend = Some(trial.adopted());
        Ok(())
    }

    /// Returns the socket of the backend, connected or not.
    pub(super) const fn backend(&mut self) -> Option<&mut Socket> {
        self.backend.as_mut()
    }

    /// Reads from the client into its inbox, unless the inbox has bytes that no parser has seen.
    pub(super) fn fill(&mut self, inbox: &mut Inbox, tools: &mut Tools) -> Result<Fill, Errno> {
        let filled = inbox.fill(&mut self.client, tools)?;
        if filled == Fill::New {
            self.active = tools.now;
        }
        Ok(filled)
    }

    /// Reads from the backend into the scratch buffer.
    pub(super) fn read_backend(&mut self, tools: &mut Tools) -> Result<Read, Errno> {
        let Some(backend) = self.backend.as_mut().filter(|backend| backend.is_readable()) else {
            return Ok(Read::Nothing);
        };
        tools.budget = tools.budget.saturating_sub(1);
        let read = backend.read(&mut tools.scratch)?;
        if matches!(read, Read::Bytes(_)) {
            self.active = tools.now;
        }
        Ok(read)
    }

    /// Returns the address that the client connected to.
    pub(super) fn local_address(&self) -> Option<SocketAddr> {
        getsockname(&self.client).ok().and_then(|own| SocketAddr::try_from(own).ok())
    }

    /// True if the client has reset the connection.
    pub(super) const fn client_is_gone(&self) -> bool {
        self.client.is_broken()
    }

    /// True if epoll has reported that the client stopped sending, even if that has not been read yet.
    pub(super) const fn client_is_ending(&self) -> bool {
        self.client.is_ending()
    }

    /// True if the client's end has been read.
    pub(super) const fn client_has_ended(&self) -> bool {
        self.up.has_ended()
    }

    /// True if the end of one side has been read.
    pub(super) const fn is_half_closed(&self) -> bool {
        self.up.has_ended() || self.down.has_ended()
    }

    /// Returns the bytes that were delivered to the backend and to the client.
    pub(super) const fn totals(&self) -> (u64, u64) {
        (self.up.total(), self.down.total())
    }

    /// True if no bytes are waiting for the client.
    pub(super) const fn client_has_all(&self) -> bool {
        self.down.is_empty()
    }

    /// Adds bytes for the backend.
    pub(super) fn push_up(&mut self, bytes: &[u8]) {
        self.up.push(bytes);
    }

    /// Adds bytes for the client.
    pub(super) fn push_down(&mut self, bytes: &[u8]) {
        self.down.push(bytes);
    }

    /// Removes the unsent bytes that are waiting for a backend.
    pub(super) fn take_up(&mut self) -> Vec<u8> {
        self.up.take_pending()
    }

    /// Counts the first bytes, which were sent to the backend while connecting.
    pub(super) const fn connected(&mut self, count: u64, now: u64) {
        self.up.add_total(count);
        self.active = now;
    }

    /// Returns the moment at which a byte last moved.
    pub(super) const fn active(&self) -> u64 {
        self.active
    }

    /// Moves up to `limit` bytes to the backend.
    pub(super) fn pump_up(&mut self, limit: u64, tools: &mut Tools) -> (u64, Result<Stop, Broken>) {
        let Some(backend) = &mut self.backend else { return (0, Err(Broken::Sink)) };
        let (moved, stop) = self.up.pump(&mut self.client, backend, limit, tools);
        if moved > 0 {
            self.active = tools.now;
        }
        (moved, stop)
    }

    /// Moves up to `limit` bytes to the client.
    pub(super) fn pump_down(
        &mut self,
        limit: u64,
        tools: &mut Tools,
    ) -> (u64, Result<Stop, Broken>) {
        let Some(backend) = &mut self.backend else { return (0, Err(Broken::Source)) };
        let (moved, stop) = self.down.pump(backend, &mut self.client, limit, tools);
        if moved > 0 {
            self.active = tools.now;
        }
        (moved, stop)
    }

    /// Delivers the bytes that are waiting for the backend; returns false if its socket is full.
    pub(super) fn flush_up(&mut self, pipes: &mut Pipes) -> Result<bool, Broken> {
        let Some(backend) = &mut self.backend else { return Err(Broken::Sink) };
        self.up.flush(backend, pipes)
    }

    /// Delivers the bytes that are waiting for the client; returns false if its socket is full.
    pub(super) fn flush_down(&mut self, pipes: &mut Pipes) -> Result<bool, Broken> {
        self.down.flush(&mut self.client, pipes)
    }

    /// Drops the bytes for a backend that accepts no more, and reads the bytes that it has sent.
    pub(super) fn give_up_sending(&mut self, pipes: &mut Pipes) {
        self.up.clear(pipes);
        self.read_rest();
    }

    /// Reads from the backend even without an event, because it may have answered before it stopped
    /// reading.
    pub(super) const fn read_rest(&mut self) {
        if let Some(backend) = &mut self.backend {
            backend.read_again();
        }
    }

    /// Forgets a backend that closed without sending a byte, so that another backend can be tried.
    pub(super) fn restart(&mut self, pipes: &mut Pipes) {
        self.up.restart(pipes);
        self.down.restart(pipes);
    }

    /// Passes the ends of both directions on.
    pub(super) fn shut(&mut self) {
        if let Some(backend) = &self.backend {
            self.up.shut(backend);
        }
        self.down.shut(&self.client);
    }

    /// Closes the backend; the client gets only the bytes that are already on their way.
    pub(super) fn end_down(&mut self) {
        self.backend = None;
        self.down.end();
    }

    /// Sends the client these bytes instead of anything else.
    pub(super) fn answer(&mut self, bytes: &[u8], pipes: &mut Pipes) {
        self.up.clear(pipes);
        self.down.clear(pipes);
        self.down.push(bytes);
        self.end_down();
    }

    /// Delivers the last bytes to the client, then discards the client's bytes; returns true once the
    /// client has closed or has sent more than `left` bytes.
    pub(super) fn drain(&mut self, left: &mut u32, tools: &mut Tools) -> bool {
        match self.down.flush(&mut self.client, &mut tools.pipes) {
            Ok(true) => self.down.shut(&self.client),
            Ok(false) => return false,
            Err(_) => return true,
        }
        while self.client.is_readable() {
            match self.client.read(&mut tools.scratch) {
                Ok(Read::Bytes(count)) => {
                    *left = left.saturating_sub(u32::try_from(count).unwrap_or(u32::MAX));
                    if *left == 0 {
                        return true;
                    }
                }
                Ok(Read::Nothing) => {}
                Ok(Read::End) | Err(_) => return true,
            }
        }
        false
    }

    /// Returns the pipes, and passes a reset on to the side that is still connected.
    pub(super) fn close(&mut self, end: End, pipes: &mut Pipes) {
        self.up.clear(pipes);
        self.down.clear(pipes);
        let survivor = match end {
            End::ClientReset => self.backend.as_ref(),
            End::BackendReset => Some(&self.client),
            _ => None,
        };
        if let Some(survivor) = survivor {
            survivor.reset_on_close();
        }
    }
}

fn connecting(address: SocketAddr) -> Result<OwnedFd, Errno> {
    let socket = net::socket(address)?;
    sockopt::set_tcp_nodelay(&socket, true)?;
    sockopt::set_socket_keepalive(&socket, true)?;
    net::begin_connect(&socket, address)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::{Key, Side};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_key_survives_the_round_trip_through_epoll(index in 0_u32..1 << 30, generation in 1_u32.., side in 0_usize..3) {
            let side = [Side::Client, Side::Backend, Side::Trial][side];
            let (key, data) = (Key { index, generation }, Key { index, generation }.data(side).u64());
            prop_assert!(data >= Key::FIRST);
            prop_assert_eq!(Key::parse(data), (key, side));
        }
    }
}
