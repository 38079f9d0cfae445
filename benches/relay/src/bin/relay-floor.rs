//! The least that relays a connection: accept, read once, connect, and splice(2) both ways.
//!
//! One thread, one epoll loop, a pipe of its own for each direction. It looks at nothing, has no
//! routes, no deadlines and no limits: what a gateway costs above this is its own.

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

/// What epoll reports for the listener; connections are reported by number and side.
const LISTENER: u64 = u64::MAX;

/// Bytes of a pipe.
const PIPE: usize = 256 << 10;

/// A direction: its pipe is made when the first byte after the hello comes.
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
    let address: SocketAddr = address.parse().context("no address")?;
    let backend: SocketAddr = backend.parse().context("no address")?;
    let listener = TcpListener::bind(address).with_context(|| format!("listening on {address}"))?;
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
                && !pair.step(data >> 1, &epoll, backend)
            {
                pairs.remove(&(data >> 1));
            }
        }
    }
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
    /// Does what can be done; false when it is over.
    fn step(&mut self, number: u64, epoll: &OwnedFd, backend: SocketAddr) -> bool {
        if self.backend.is_none() {
            return self.begin(number, epoll, backend).is_some();
        }
        let Some(backend) = &self.backend else { return false };
        let up = self.up.go_on(&self.client, backend);
        let down = self.down.go_on(backend, &self.client);
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
        // Over loopback it is connected by now.
        send(&socket, &hello[..count], SendFlags::NOSIGNAL).ok()?;
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        epoll::add(epoll, &socket, EventData::new_u64(number << 1 | 1), flags).ok()?;
        self.backend = Some(socket);
        Some(())
    }
}

impl Flow {
    /// Splices until either side has nothing or takes nothing; false when a side is broken.
    fn go_on(&mut self, from: &OwnedFd, to: &OwnedFd) -> bool {
        if self.ended {
            return true;
        }
        if self.pipe.is_none() {
            let Ok((read, write)) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK) else {
                return false;
            };
            let _ = fcntl_setpipe_size(&write, PIPE);
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
