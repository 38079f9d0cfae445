//! A worker: one thread, one epoll, and its connections from accept to end.
//!
//! Sockets are reported once per change (edge-triggered), so a connection needs no system call to
//! wait. All workers share all listeners, and the kernel wakes one worker per client. Ports are opened
//! without `SO_REUSEPORT`, so a second gateway on the same port fails instead of taking clients.
//!
//! | file | owns |
//! | --- | --- |
//! | `accept` | the listening sockets, and the pause while there is no room |
//! | `slots`, `timer` | connections by index, and their deadlines |
//! | `connection` | the order of a connection's phases |
//! | `session` | the client, its route and its backend |
//! | `opening` | PROXY header and `ClientHello` |
//! | `dial` | the addresses that are tried |
//! | `web` | requests and answers |
//! | `inbox` | bytes of the client that no backend has |
//! | `link`, `flow`, `pipes`, `socket` | both sockets, and the bytes between them |
//! | `end` | the reasons why a connection ends, and the ways to close it |

mod accept;
mod connection;
mod dial;
mod end;
mod flow;
mod inbox;
mod link;
mod opening;
mod pipes;
mod session;
mod slots;
mod socket;
mod timer;
mod tools;
mod web;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use kiln_base::time::timespec;
use rustix::event::epoll;
use rustix::fd::OwnedFd;
use rustix::io::Errno;

use crate::state::{Shared, Snapshot};
use accept::{Accepted, Acceptor};
use connection::{Connection, Turn};
use end::End;
use link::Key;
use pipes::Pipes;
use session::Session;
use slots::Slots;
use timer::Wheel;
use tools::Tools;

/// Bytes of the buffer that all connections of a worker share.
const SCRATCH_BYTES: usize = 64 << 10;

/// The most reads or splices of one connection before it is other connections' turn.
const BUDGET_MAX: u32 = 16;

/// The most events that are fetched at once.
const EVENTS_MAX: usize = 256;

/// The most clients that are accepted at once before it is open connections' turn.
const ACCEPTS_MAX: usize = 64;

/// The number by which epoll reports the worker's wake descriptor.
const WAKE: u64 = u64::MAX;

const NO_EVENT: epoll::Event =
    epoll::Event { flags: epoll::EventFlags::empty(), data: epoll::EventData::new_u64(0) };

/// A worker.
#[derive(Debug)]
pub struct Worker {
    shared: Arc<Shared>,
    snapshot: Arc<Snapshot>,
    number: usize,
    acceptor: Acceptor,
    slots: Slots,
    timers: Wheel,
    tools: Tools,
    /// Connections that had their turn and have more to do.
    ready: VecDeque<u32>,
    /// Connections that wait for DNS.
    parked: Vec<u32>,
    /// The value of [`Shared::news`] at which this worker last read the news.
    news: u64,
}

impl Worker {
    /// Makes worker `number`, which is woken by its descriptor in `shared.wakers`.
    ///
    /// # Errors
    /// Fails if the kernel refuses an epoll.
    pub fn new(shared: Arc<Shared>, number: usize) -> rustix::io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let data = epoll::EventData::new_u64(WAKE);
        epoll::add(&epoll, shared.wakers.descriptor(number), data, epoll::EventFlags::IN)?;
        let now = shared.now();
        let tools = Tools {
            epoll,
            scratch: vec![0; SCRATCH_BYTES].into(),
            pipes: Pipes::new(shared.limits.pipes_max),
            budget: 0,
            now,
            draining: false,
            demand: Arc::clone(&shared.demand),
        };
        let mut worker = Self {
            snapshot: shared.snapshot(),
            number,
            acceptor: Acceptor::default(),
            slots: Slots::default(),
            timers: Wheel::new(now),
            tools,
            ready: VecDeque::new(),
            parked: Vec::new(),
            news: shared.news.load(Ordering::Acquire),
            shared,
        };
        worker.listen();
        Ok(worker)
    }

    /// Serves forever; a worker stops only when the process exits.
    ///
    /// # Errors
    /// Fails if epoll does.
    pub fn run(&mut self) -> rustix::io::Result<()> {
        let mut events = [NO_EVENT; EVENTS_MAX];
        loop {
            let count = self.wait(&mut events)?;
            self.tools.now = self.shared.now();
            for event in &events[..count] {
                self.event(event);
            }
            for _ in 0..self.ready.len() {
                if let Some(index) = self.ready.pop_front() {
                    self.drive(index, Connection::turn);
                }
            }
            while let Some(index) = self.timers.pop(self.tools.now) {
                self.expire(index);
            }
            if self.acceptor.resumes(self.tools.now) {
                self.listen();
            }
            self.trim();
        }
    }

    fn wait(&self, events: &mut [epoll::Event]) -> rustix::io::Result<usize> {
        let until = [self.timers.next(), self.acceptor.paused_until()].into_iter().flatten().min();
        let millis = match until {
            _ if !self.ready.is_empty() => Some(0),
            Some(until) => Some(until.saturating_sub(self.shared.now())),
            None => None,
        };
        let time = millis.map(|millis| timespec(Duration::from_millis(millis)));
        match epoll::wait(&self.tools.epoll, events, time.as_ref()) {
            Ok(count) => Ok(count),
            Err(Errno::INTR) => Ok(0),
            Err(errno) => Err(errno),
        }
    }

    fn event(&mut self, event: &epoll::Event) {
        let data = event.data.u64();
        if data == WAKE {
            self.read_news();
        } else if data < Key::FIRST {
            self.accept(usize::try_from(data).unwrap_or(usize::MAX));
        } else {
            let (key, side) = Key::parse(data);
            let connection = self.slots.get_mut(key.index);
            if let Some(connection) = connection.filter(|connection| connection.key() == key) {
                connection.event(side, event.flags);
                self.drive(key.index, Connection::turn);
            }
        }
    }

    /// Waits for clients, unless the gateway is shutting down.
    fn listen(&mut self) {
        if self.tools.draining {
            self.acceptor.close(&self.tools.epoll);
        } else {
            self.acceptor.open(&self.tools.epoll, &self.snapshot);
        }
    }

    /// Accepts the clients that wait on a listener.
    fn accept(&mut self, listener: usize) {
        for _ in 0..ACCEPTS_MAX {
            match self.acceptor.accept(listener, &self.shared, self.tools.now) {
                Accepted::Client(client, peer) => self.admit(client, peer, listener),
                Accepted::Failed => {}
                Accepted::Nothing if self.acceptor.is_paused() => return self.listen(),
                Accepted::Nothing => return,
            }
        }
    }

    fn admit(&mut self, client: OwnedFd, peer: SocketAddr, listener: usize) {
        let now = self.tools.now;
        let Some(session) = Session::admit(&self.shared, &self.snapshot, listener, peer, now)
        else {
            return;
        };
        let key = self.slots.reserve();
        self.slots.put(Box::new(Connection::new(client, session, key)));
        self.drive(key.index, Connection::turn);
    }

    /// Drives a connection as far as possible without waiting, beginning with `first`.
    fn drive(&mut self, index: u32, first: fn(&mut Connection, &mut Tools) -> Turn) {
        let Some(mut connection) = self.slots.take(index) else { return };
        self.tools.budget = BUDGET_MAX;
        let mut turn = first(&mut connection, &mut self.tools);
        loop {
            match turn {
                Turn::Next => {}
                Turn::Wait | Turn::Park if connection.is_abandoned() => {
                    return self.close(connection, End::ClientReset);
                }
                Turn::Wait => break,
                Turn::Park => {
                    self.parked.push(index);
                    break;
                }
                Turn::Yield => {
                    self.ready.push_back(index);
                    break;
                }
                Turn::Close(end) => return self.close(connection, end),
            }
            turn = connection.turn(&mut self.tools);
        }
        if connection.register(&self.tools).is_err() {
            return self.close(connection, End::Refused);
        }
        self.timers.set(index, connection.deadline());
        self.slots.put(connection);
    }

    /// Ends a connection whose deadline has passed, unless its deadline has moved in the meantime.
    fn expire(&mut self, index: u32) {
        let Some(connection) = self.slots.get_mut(index) else { return };
        let deadline = connection.deadline();
        if deadline > self.tools.now {
            return self.timers.set(index, deadline);
        }
        self.drive(index, Connection::expire);
    }

    fn close(&mut self, connection: Box<Connection>, end: End) {
        let index = connection.key().index;
        self.timers.remove(index);
        connection.close(end, &self.shared, &mut self.tools);
        self.slots.release(index);
        self.acceptor.end_pause(self.tools.now);
    }

    /// Reads what the control thread has published.
    fn read_news(&mut self) {
        self.shared.wakers.clear(self.number);
        let news = self.shared.news.load(Ordering::Acquire);
        if news == self.news {
            return;
        }
        self.news = news;
        let snapshot = self.shared.snapshot();
        let draining = self.shared.draining.load(Ordering::Acquire);
        if !Arc::ptr_eq(&snapshot, &self.snapshot) || draining != self.tools.draining {
            if draining {
                // Clients in the kernel's queue connected before the shutdown.
                (0..self.acceptor.len()).for_each(|listener| self.accept(listener));
            }
            self.snapshot = snapshot;
            self.tools.draining = draining;
            self.listen();
        }
        for index in std::mem::take(&mut self.parked) {
            self.drive(index, Connection::unpark);
        }
        if self.tools.draining {
            self.finish();
        }
    }

    /// Ends idle connections, and makes the responses that are under way the last ones.
    fn finish(&mut self) {
        for index in 0..self.slots.indices() {
            if let Some(connection) = self.slots.get_mut(index) {
                connection.finish();
                self.drive(index, Connection::turn);
            }
        }
    }

    /// Frees memory after many connections have ended.
    fn trim(&mut self) {
        if self.ready.is_empty() {
            self.tools.pipes.trim();
        }
        if self.slots.trim() {
            self.timers.shrink(self.slots.indices() as usize);
            return_memory();
        }
    }
}

/// Returns freed memory to the system, because the C library keeps it otherwise (`malloc_trim(3)`).
#[cfg(target_env = "gnu")]
fn return_memory() {
    // SAFETY: malloc_trim has no preconditions and takes the allocator's own locks.
    unsafe { libc::malloc_trim(0) };
}

#[cfg(not(target_env = "gnu"))]
const fn return_memory() {}
