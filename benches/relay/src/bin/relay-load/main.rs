//! The clients and the backend of a gateway in one thread.
//!
//! `new` opens connections, each for a hello and a response of 1 KiB. With `bulk` the backend sends all
//! the time, and the bytes are discarded inside the kernel. `idle` opens connections and holds them
//! until standard input is closed. The result is one line of JSON on standard output.

mod peer;

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::fd::OwnedFd;

use peer::{Mode, Peer, Role};

const USAGE: &str = "relay-load GATEWAY BACKEND new|bulk|idle CONNECTIONS MILLISECONDS";

/// The epoll data of the backend's listener; the data of a peer is its index.
const LISTENER: u64 = u64::MAX;

#[derive(Debug)]
struct Load {
    gateway: SocketAddr,
    mode: Mode,
    epoll: OwnedFd,
    listener: TcpListener,
    peers: Vec<Option<Peer>>,
    free: Vec<usize>,
    /// Connections that have ended, or (with `idle`) got their response.
    done: usize,
    bytes: u64,
    latencies: Vec<u32>,
}

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [gateway, backend, mode, count, millis] = &args[..] else { bail!("usage: {USAGE}") };
    let mode = match mode.as_str() {
        "new" => Mode::New,
        "bulk" => Mode::Bulk,
        "idle" => Mode::Idle,
        _ => bail!("usage: {USAGE}"),
    };
    let listener =
        TcpListener::bind(backend).with_context(|| format!("cannot listen on {backend}"))?;
    listener.set_nonblocking(true)?;
    let epoll = epoll::create(CreateFlags::CLOEXEC)?;
    epoll::add(&epoll, &listener, EventData::new_u64(LISTENER), EventFlags::IN)?;
    let gateway =
        gateway.parse().with_context(|| format!("{gateway} is not an address with a port"))?;
    let mut load = Load {
        gateway,
        mode,
        epoll,
        listener,
        peers: Vec::new(),
        free: Vec::new(),
        done: 0,
        bytes: 0,
        latencies: Vec::new(),
    };
    let begin = Instant::now();
    load.run(count.parse()?, begin + Duration::from_millis(millis.parse()?))?;
    load.report(begin.elapsed())
}

impl Load {
    fn run(&mut self, count: usize, end: Instant) -> Result<()> {
        // Idle connections are opened a few at a time, so that no queue overflows.
        let mut opened = 0;
        let mut events: Vec<Event> = Vec::with_capacity(256);
        loop {
            let now = Instant::now();
            let wanted = if self.mode == Mode::Idle { count.min(self.done + 64) } else { count };
            while opened < wanted {
                self.open(now)?;
                opened += 1;
            }
            if (self.mode == Mode::Idle && self.done >= count)
                || (self.mode != Mode::Idle && now >= end)
            {
                return Ok(());
            }
            ensure!(
                now < end + Duration::from_mins(1),
                "only {} of {count} connections got a response",
                self.done
            );
            let time = kiln_base::time::timespec(Duration::from_millis(50));
            epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), Some(&time))?;
            for event in events.drain(..) {
                match event.data.u64() {
                    LISTENER => self.accept()?,
                    index => self.advance(usize::try_from(index)?)?,
                }
            }
        }
    }

    fn open(&mut self, now: Instant) -> Result<()> {
        let peer = Peer::connect(self.gateway, now)?;
        self.add(peer)
    }

    fn accept(&mut self) -> Result<()> {
        while let Ok((stream, _)) = self.listener.accept() {
            self.add(Peer::accepted(stream)?)?;
        }
        Ok(())
    }

    fn add(&mut self, peer: Peer) -> Result<()> {
        let index = self.free.pop().unwrap_or_else(|| {
            self.peers.push(None);
            self.peers.len() - 1
        });
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        epoll::add(&self.epoll, &peer.socket, EventData::new_u64(index as u64), flags)?;
        self.peers[index] = Some(peer);
        Ok(())
    }

    fn advance(&mut self, index: usize) -> Result<()> {
        let Some(Some(peer)) = self.peers.get_mut(index) else { return Ok(()) };
        let is_client = peer.role == Role::Client;
        let progress = peer.advance(self.mode)?;
        self.bytes += progress.received;
        if progress.answered {
            self.done += 1;
            let micros = u32::try_from(peer.begun.elapsed().as_micros()).unwrap_or(u32::MAX);
            self.latencies.push(micros);
        }
        if progress.closed {
            ensure!(!is_client || self.mode == Mode::New, "the gateway closed a connection");
            self.peers[index] = None;
            self.free.push(index);
            if is_client {
                self.open(Instant::now())?;
            }
        }
        Ok(())
    }

    fn report(&mut self, wall: Duration) -> Result<()> {
        self.latencies.sort_unstable();
        let [p50, p90, p99, most] = [500, 900, 990, 1000].map(|mille| {
            let last = self.latencies.len().saturating_sub(1);
            self.latencies.get(last * mille / 1000).copied().unwrap_or(0)
        });
        println!(
            "{{\"connections\":{},\"bytes\":{},\"p50_us\":{p50},\"p90_us\":{p90},\
             \"p99_us\":{p99},\"most_us\":{most},\"wall_us\":{}}}",
            self.done,
            self.bytes,
            wall.as_micros()
        );
        std::io::stdout().flush()?;
        if self.mode == Mode::Idle {
            std::io::stdin().read_to_end(&mut Vec::new())?;
        }
        Ok(())
    }
}
