//! A worker: one thread, one epoll, its connections from accept to end.
//!
//! Sockets are reported once per change (edge-triggered), so a connection needs no system call to
//! say what it waits for. All listeners are shared by all workers; the kernel wakes one of them.
//! A port is never opened twice, so a second gateway on it is an error and not a silent share.

mod accept;
mod connect;
mod connection;
mod dial;
mod flow;
mod open;
mod pipes;
mod relay;
mod timer;
mod web;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rustix::event::{Timespec, epoll};
use rustix::fd::OwnedFd;
use rustix::io::Errno;

use crate::access::Record;
use crate::state::{Shared, Snapshot};
use connection::{Connection, End, Phase};
use flow::Tools;
use pipes::Pipes;
use timer::Wheel;

/// The buffer that all connections of a worker share.
const SCRATCH: usize = 64 << 10;

/// Steps of one connection (reads or splices) before others have their turn.
const BUDGET: u32 = 16;

/// Events that are fetched at once.
const EVENTS: usize = 256;

/// What epoll reports for these two; below `CONNECTIONS` it is a listener's index.
const WAKE: u64 = u64::MAX;
const CONNECTIONS: u64 = 1 << 32;

/// Closed connections after which memory is given back to the system.
const TRIM_AFTER: usize = 2_000;

const NO_EVENT: epoll::Event =
    epoll::Event { flags: epoll::EventFlags::empty(), data: epoll::EventData::new_u64(0) };

/// What a step of a connection leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// There may be more to do at once.
    Next,
    /// Nothing can be done before the next event.
    Wait,
    /// More can be done, but others have their turn.
    Again,
    /// It is over.
    Close(End),
}

/// A worker.
#[derive(Debug)]
pub struct Worker {
    shared: Arc<Shared>,
    snapshot: Arc<Snapshot>,
    number: usize,
    epoll: OwnedFd,
    /// Connections by index; those that are being driven are taken out.
    connections: Vec<Option<Box<Connection>>>,
    free: Vec<u32>,
    open: usize,
    generation: u32,
    timers: Wheel,
    tools: Tools,
    /// Connections that had their turn and have more to do.
    ready: VecDeque<u32>,
    /// Connections that wait for DNS.
    parked: Vec<u32>,
    now: u64,
    news: u64,
    /// Sockets that are waited for.
    listening: Vec<Arc<OwnedFd>>,
    /// No new connections until then.
    paused: Option<u64>,
    draining: bool,
    closed: usize,
}

impl Worker {
    /// Makes worker `number`, which is woken by `shared.wakes[number]`.
    pub fn new(shared: Arc<Shared>, number: usize) -> rustix::io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let data = epoll::EventData::new_u64(WAKE);
        epoll::add(&epoll, &shared.wakes[number], data, epoll::EventFlags::IN)?;
        let snapshot = shared.snapshot();
        let now = shared.now();
        let pipes = Pipes::new(shared.most_pipes);
        let mut worker = Self {
            snapshot,
            number,
            epoll,
            connections: Vec::new(),
            free: Vec::new(),
            open: 0,
            generation: 0,
            timers: Wheel::new(now),
            tools: Tools { scratch: vec![0; SCRATCH].into(), pipes, budget: 0 },
            ready: VecDeque::new(),
            parked: Vec::new(),
            now,
            news: shared.news.load(Ordering::Acquire),
            listening: Vec::new(),
            paused: None,
            draining: false,
            closed: 0,
            shared,
        };
        worker.listen();
        Ok(worker)
    }

    /// Works for ever; the process ends around it.
    pub fn run(&mut self) -> rustix::io::Result<()> {
        let mut events = [NO_EVENT; EVENTS];
        loop {
            let count = self.wait(&mut events)?;
            self.now = self.shared.now();
            for event in &events[..count] {
                self.event(event);
            }
            for _ in 0..self.ready.len() {
                if let Some(index) = self.ready.pop_front() {
                    self.drive(index);
                }
            }
            while let Some(index) = self.timers.pop(self.now) {
                self.expire(index);
            }
            self.resume();
            self.trim();
        }
    }

    fn wait(&self, events: &mut [epoll::Event]) -> rustix::io::Result<usize> {
        let until = [self.timers.next(), self.paused].into_iter().flatten().min();
        let millis = match until {
            _ if !self.ready.is_empty() => Some(0),
            Some(until) => Some(until.saturating_sub(self.shared.now())),
            None => None,
        };
        let time = millis.map(|millis| Timespec {
            tv_sec: i64::try_from(millis / 1000).unwrap_or(i64::MAX),
            tv_nsec: i64::try_from(millis % 1000 * 1_000_000).unwrap_or(0),
        });
        match epoll::wait(&self.epoll, events, time.as_ref()) {
            Ok(count) => Ok(count),
            Err(Errno::INTR) => Ok(0),
            Err(errno) => Err(errno),
        }
    }

    fn event(&mut self, event: &epoll::Event) {
        let data = event.data.u64();
        if data == WAKE {
            self.look();
        } else if data < CONNECTIONS {
            self.accept(usize::try_from(data).unwrap_or(usize::MAX));
        } else {
            self.socket(data, event.flags);
        }
    }

    /// An event of a connection's socket: generation, index, and which of the two.
    fn socket(&mut self, data: u64, flags: epoll::EventFlags) {
        use epoll::EventFlags as Flag;
        let index = u32::try_from(data >> 1 & 0x7fff_ffff).unwrap_or(u32::MAX);
        let generation = u32::try_from(data >> 32).unwrap_or(0);
        let Some(Some(connection)) = self.connections.get_mut(index as usize) else { return };
        // An event of a connection that ended in this turn, whose index is in use again.
        if connection.generation != generation {
            return;
        }
        let is_client = data & 1 == 0;
        let side =
            if is_client { &mut connection.client_side } else { &mut connection.backend_side };
        let broken = flags.intersects(Flag::ERR | Flag::HUP);
        side.broken |= flags.contains(Flag::ERR);
        side.ending |= broken || flags.contains(Flag::RDHUP);
        side.readable |= side.ending || flags.contains(Flag::IN);
        side.writable |= broken || flags.contains(Flag::OUT);
        self.drive(index);
    }

    /// The number by which epoll reports a connection's socket.
    const fn data(index: u32, generation: u32, backend: bool) -> epoll::EventData {
        epoll::EventData::new_u64((generation as u64) << 32 | (index as u64) << 1 | backend as u64)
    }

    /// Does for a connection what can be done without waiting.
    fn drive(&mut self, index: u32) {
        let Some(mut connection) = self.connections.get_mut(index as usize).and_then(Option::take)
        else {
            return;
        };
        self.tools.budget = BUDGET;
        loop {
            match self.step(&mut connection, index) {
                Step::Next => {}
                // Nobody reads from a client whose turn it is not, so only this says that it is gone.
                Step::Wait if connection.is_abandoned() => {
                    return self.close(connection, index, End::ClientReset);
                }
                Step::Wait => break,
                Step::Again => {
                    self.ready.push_back(index);
                    break;
                }
                Step::Close(end) => return self.close(connection, index, end),
            }
        }
        if self.follow(&mut connection, index).is_err() {
            return self.close(connection, index, End::Refused);
        }
        self.timers.set(index, connection.deadline());
        self.connections[index as usize] = Some(connection);
    }

    fn step(&mut self, connection: &mut Connection, index: u32) -> Step {
        match connection.phase {
            Phase::Proxy => self.read_proxy(connection),
            Phase::Hello(_) => self.read_hello(connection, index),
            Phase::Head => self.read_head(connection, index),
            Phase::Resolve => Step::Wait,
            Phase::Connect => self.connecting(connection, index),
            Phase::Relay if connection.web.is_some() => self.relay_web(connection),
            Phase::Relay => self.relay(connection, index),
            Phase::Drain { .. } => self.drain(connection),
        }
    }

    /// Makes epoll report the client's socket, and the moment when a full one takes bytes again.
    fn follow(&self, connection: &mut Connection, index: u32) -> rustix::io::Result<()> {
        use epoll::EventFlags as Flag;
        let usual = Flag::IN | Flag::RDHUP | Flag::ET;
        let Connection { client, backend, client_side, backend_side, generation, .. } = connection;
        let data = |backend| Self::data(index, *generation, backend);
        if !connection.registered {
            epoll::add(&self.epoll, &*client, data(false), usual)?;
            connection.registered = true;
        }
        if !client_side.writable && !client_side.armed {
            epoll::modify(&self.epoll, &*client, data(false), usual | Flag::OUT)?;
            client_side.armed = true;
        }
        if let Some(backend) = backend
            && !backend_side.writable
            && !backend_side.armed
        {
            epoll::modify(&self.epoll, backend, data(true), usual | Flag::OUT)?;
            backend_side.armed = true;
        }
        Ok(())
    }

    /// A connection's time may be over.
    fn expire(&mut self, index: u32) {
        let Some(Some(connection)) = self.connections.get_mut(index as usize) else { return };
        let deadline = connection.deadline();
        if deadline > self.now {
            return self.timers.set(index, deadline);
        }
        let Some(mut connection) = self.connections[index as usize].take() else { return };
        if let Step::Close(end) = self.timeout(&mut connection, index) {
            return self.close(connection, index, end);
        }
        self.timers.set(index, connection.deadline().max(self.now + 1));
        self.connections[index as usize] = Some(connection);
        self.ready.push_back(index);
    }

    fn close(&mut self, mut connection: Box<Connection>, index: u32, end: End) {
        connection.up.clear(&mut self.tools.pipes);
        connection.down.clear(&mut self.tools.pipes);
        let survivor = match end {
            End::ClientReset => connection.backend.as_ref(),
            End::BackendReset => Some(&connection.client),
            _ => None,
        };
        if let Some(survivor) = survivor {
            // The other side must not take this for an orderly end: it gets a reset too.
            let at_once = Some(std::time::Duration::ZERO);
            let _ = rustix::net::sockopt::set_socket_linger(survivor, at_once);
        }
        self.timers.remove(index);
        self.account(&connection, end);
        drop(connection);
        self.free.push(index);
        self.open -= 1;
        self.closed += 1;
        if self.paused.is_some() {
            self.paused = Some(self.now);
        }
    }

    /// Counts and logs a connection that has ended.
    fn account(&self, connection: &Connection, end: End) {
        let counters = &self.shared.counters;
        counters.open.fetch_sub(1, Ordering::Relaxed);
        accept::leave(connection);
        let (up, down) = (connection.up.total, connection.down.total);
        match connection.route() {
            Some((route, _)) => {
                route.counters.up.fetch_add(up, Ordering::Relaxed);
                route.counters.down.fetch_add(down, Ordering::Relaxed);
            }
            None if end == End::UnknownName => {
                counters.unknown.fetch_add(1, Ordering::Relaxed);
            }
            None => {
                counters.unrouted.fetch_add(1, Ordering::Relaxed);
            }
        }
        let Some(access) = &self.shared.access else { return };
        let route = connection.route().map(|(route, _)| route);
        let backend = route.and_then(|route| route.backends.get(usize::from(connection.target?)));
        let record = Record {
            listener: &connection.config().name,
            client: crate::proxy::canonical(connection.addresses.client),
            name: connection.name.as_deref(),
            route: route.map(|route| route.label.as_str()),
            backend: backend.map(|backend| backend.text.as_str()),
            up,
            down,
            millis: self.now.saturating_sub(connection.started),
            end: end.word(),
        };
        if !access.line(record.line()) {
            counters.dropped_lines.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Takes over what the control thread has to say.
    fn look(&mut self) {
        let mut count = [0; 8];
        let _: Result<usize, Errno> = rustix::io::read(&self.shared.wakes[self.number], &mut count);
        let news = self.shared.news.load(Ordering::Acquire);
        if news == self.news {
            return;
        }
        self.news = news;
        let snapshot = self.shared.snapshot();
        let draining = self.shared.draining.load(Ordering::Acquire);
        if !Arc::ptr_eq(&snapshot, &self.snapshot) || draining != self.draining {
            if draining {
                // Those who wait in the queue came before the end.
                (0..self.listening.len()).for_each(|listener| self.accept(listener));
            }
            self.snapshot = snapshot;
            self.draining = draining;
            self.listen();
        }
        for index in std::mem::take(&mut self.parked) {
            self.unpark(index);
        }
        if self.draining {
            self.end_idle();
        }
    }

    /// Ends what is idle, and lets what is under way be the last on its connection.
    fn end_idle(&mut self) {
        for index in 0..self.connections.len() {
            let Some(Some(connection)) = self.connections.get_mut(index) else { continue };
            // One that waits for its first request is not idle: that request came before the end.
            let asked = matches!(connection.phase, Phase::Resolve | Phase::Connect | Phase::Relay);
            if let (true, Some(web)) = (asked, &mut connection.web) {
                web.exchange.finish();
            }
            self.drive(u32::try_from(index).unwrap_or(u32::MAX));
        }
    }

    /// Gives memory back after many connections have gone.
    fn trim(&mut self) {
        if self.ready.is_empty() {
            self.tools.pipes.trim();
        }
        if self.closed < TRIM_AFTER || self.open * 2 > self.closed {
            return;
        }
        self.closed = 0;
        while matches!(self.connections.last(), Some(None)) {
            self.connections.pop();
        }
        let len = self.connections.len();
        self.connections.shrink_to_fit();
        self.free.retain(|index| (*index as usize) < len);
        self.free.shrink_to_fit();
        self.timers.shrink(len);
        give_memory_back();
    }
}

/// The C library keeps what is freed for itself, unless it is told not to (`malloc_trim(3)`).
#[cfg(target_env = "gnu")]
fn give_memory_back() {
    // SAFETY: malloc_trim has no preconditions and takes the allocator's own locks.
    unsafe { libc::malloc_trim(0) };
}

#[cfg(not(target_env = "gnu"))]
const fn give_memory_back() {}
