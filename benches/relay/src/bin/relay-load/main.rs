//! Clients and backend of a gateway in one thread: what passes between them has passed the gateway.
//!
//! `new` opens connections, each for a hello and an answer of 1 KiB; `bulk` has the backend send for
//! all the time, and throws the bytes away inside the kernel; `idle` opens connections and holds
//! them until standard input ends. The result is one line of JSON on standard output.

mod peer;

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::fd::OwnedFd;

use peer::{Peer, Role};

const USAGE: &str = "relay-load GATEWAY BACKEND new|bulk|idle CONNECTIONS MILLISECONDS";

/// What epoll reports for the backend's listener; peers are reported by their index.
const LISTENER: u64 = u64::MAX;

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Connections.
    New,
    /// Bytes.
    Bulk,
    /// Nothing: somebody looks at the gateway meanwhile.
    Idle,
}

#[derive(Debug)]
struct Load {
    gateway: SocketAddr,
    mode: Mode,
    epoll: OwnedFd,
    listener: TcpListener,
    peers: Vec<Option<Peer>>,
    free: Vec<usize>,
    /// Connections that came to their end, or (idle) to their answer.
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
    let listener = TcpListener::bind(backend).with_context(|| format!("listening on {backend}"))?;
    listener.set_nonblocking(true)?;
    let epoll = epoll::create(CreateFlags::CLOEXEC)?;
    epoll::add(&epoll, &listener, EventData::new_u64(LISTENER), EventFlags::IN)?;
    let gateway = gateway.parse().context("no address")?;
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
        // A few at a time, so that no queue overflows while many are opened.
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
            ensure!(now < end + Duration::from_mins(1), "{} of {count} were answered", self.done);
            let time = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };
            epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), Some(&time))?;
            for event in events.drain(..) {
                match event.data.u64() {
                    LISTENER => self.accept()?,
                    index => self.step(usize::try_from(index)?)?,
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

    fn step(&mut self, index: usize) -> Result<()> {
        let Some(Some(peer)) = self.peers.get_mut(index) else { return Ok(()) };
        let is_client = peer.role == Role::Client;
        let step = peer.step(self.mode)?;
        self.bytes += step.received;
        if step.answered {
            self.done += 1;
            let micros = u32::try_from(peer.begun.elapsed().as_micros()).unwrap_or(u32::MAX);
            self.latencies.push(micros);
        }
        if step.over {
            ensure!(!is_client || self.mode == Mode::New, "the gateway ended a connection");
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
