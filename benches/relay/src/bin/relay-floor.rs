//! The simplest relay: accept, read once, connect, and splice(2) in both directions.
//!
//! It has one thread, one epoll loop and a pipe for each direction. It inspects nothing and has no routes,
//! deadlines or limits, so a gateway's cost above this program is the cost of its features.

use std::collections::HashMap;
use std::net::{SocketAddr, TcpListener};

use anyhow::{Context as _, Result, bail};
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SendFlags, Shutdown, SocketFlags, SocketType, accept_with, connect, send,
    shutdown, socket_with, sockopt,
};
use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};

/// The epoll data of the listener; the data of a connection is its number and side.
const LISTENER: u64 = u64::MAX;

/// Size of a pipe in bytes.
const PIPE_BYTES: usize = 256 << 10;

/// One direction; its pipe is made when the first byte after the hello arrives.
#[derive(Debug, Default)]
struct Flow {
    pipe: Option<(OwnedFd, OwnedFd)>,
    inside: usize,
    ended: bool,
}

#[derive(Debug)]
struct Pair {
    client: OwnedFd,
    backend: Option<OwnedFd>,
    up: Flow,
    down: Flow,
}

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [address, backend] = &args[..] else { bail!("usage: relay-floor ADDRESS BACKEND") };
    let address = parse(address)?;
    let backend = parse(backend)?;
    let listener =
        TcpListener::bind(address).with_context(|| format!("cannot listen on {address}"))?;
    listener.set_nonblocking(true)?;
    sockopt::set_tcp_nodelay(&listener, true)?;
    let epoll = epoll::create(CreateFlags::CLOEXEC)?;
    epoll::add(&epoll, &listener, EventData::new_u64(LISTENER), EventFlags::IN)?;
    let mut pairs = HashMap::new();
    let mut last = 0;
    let mut events: Vec<Event> = Vec::with_capacity(256);
    loop {
        epoll::wait(&epoll, rustix::buffer::spare_capacity(&mut events), None)?;
        for event in events.drain(..) {
            let data = event.data.u64();
            if data == LISTENER {
                accept(&listener, &epoll, &mut pairs, &mut last)?;
            } else if let Some(pair) = pairs.get_mut(&(data >> 1))
                && !pair.advance(data >> 1, &epoll, backend)
            {
                pairs.remove(&(data >> 1));
            }
        }
    }
}

fn parse(address: &str) -> Result<SocketAddr> {
    address.parse().with_context(|| format!("{address} is not an address with a port"))
}

fn accept(
    listener: &TcpListener,
    epoll: &OwnedFd,
    pairs: &mut HashMap<u64, Pair>,
    last: &mut u64,
) -> Result<()> {
    loop {
        let client = match accept_with(listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
            Ok(client) => client,
            Err(Errno::AGAIN) => return Ok(()),
            Err(errno) => return Err(errno.into()),
        };
        *last += 1;
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        epoll::add(epoll, &client, EventData::new_u64(*last << 1), flags)?;
        let pair = Pair { client, backend: None, up: Flow::default(), down: Flow::default() };
        pairs.insert(*last, pair);
    }
}

impl Pair {
    /// Relays the available bytes; returns false at the end of the connection.
    fn advance(&mut self, number: u64, epoll: &OwnedFd, backend: SocketAddr) -> bool {
        if self.backend.is_none() {
            return self.begin(number, epoll, backend).is_some();
        }
        let Some(backend) = &self.backend else { return false };
        let up = self.up.relay(&self.client, backend);
        let down = self.down.relay(backend, &self.client);
        up && down && !(self.up.ended && self.down.ended)
    }

    fn begin(&mut self, number: u64, epoll: &OwnedFd, address: SocketAddr) -> Option<()> {
        let mut hello = [0; 16 << 10];
        let count = match rustix::io::read(&self.client, &mut hello) {
            Ok(0) => return None,
            Ok(count) => count,
            Err(errno) => return (errno == Errno::AGAIN).then_some(()),
        };
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::INET, SocketType::STREAM, flags, None).ok()?;
        sockopt::set_tcp_nodelay(&socket, true).ok()?;
        if let Err(errno) = connect(&socket, &address)
            && errno != Errno::INPROGRESS
        {
            return None;
        }
        // Over loopback the connection is established by now.
        send(&socket, &hello[..count], SendFlags::NOSIGNAL).ok()?;
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        epoll::add(epoll, &socket, EventData::new_u64(number << 1 | 1), flags).ok()?;
        self.backend = Some(socket);
        Some(())
    }
}

impl Flow {
    /// Splices until one side has no bytes or the other accepts none; returns false on an error.
    fn relay(&mut self, from: &OwnedFd, to: &OwnedFd) -> bool {
        if self.ended {
            return true;
        }
        if self.pipe.is_none() {
            let Ok((read, write)) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK) else {
                return false;
            };
            let _ = fcntl_setpipe_size(&write, PIPE_BYTES);
            self.pipe = Some((read, write));
        }
        let Some((read, write)) = &self.pipe else { return false };
        let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
        loop {
            while self.inside > 0 {
                match splice(read, None, to, None, self.inside, flags) {
                    Ok(count) => self.inside -= count,
                    Err(errno) => return errno == Errno::AGAIN,
                }
            }
            match splice(from, None, write, None, 1 << 20, flags) {
                Ok(0) => {
                    self.ended = true;
                    return shutdown(to, Shutdown::Write).is_ok();
                }
                Ok(count) => self.inside += count,
                Err(errno) => return errno == Errno::AGAIN,
            }
        }
    }
}
