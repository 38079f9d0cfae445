//! A worker: one thread with one level-triggered epoll loop.
//!
//! Every socket is non-blocking, and a connection gets a bounded number of reads and writes per
//! turn, so that no client can hold up another. [`crate::connection`] decides what a connection
//! does.
//!
//! All workers wait on the same listening socket (`EPOLLEXCLUSIVE` wakes one of them), so there is
//! one queue, which the last worker empties at the end. With `SO_REUSEPORT` every worker would have
//! its own queue, and another program could share the port unnoticed.

mod clients;
mod clock;
mod room;

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use kiln_base::calendar::Civil;
use kiln_base::time::timespec;
use kiln_server::access::Members;
use kiln_server::limits::DRAIN_TIME_MAX;
use rustix::event::epoll::{self, EventFlags};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::{SocketFlags, accept_with};

use crate::client::{Client, READ_SIZE, Tools};
use crate::connection::Context;
use crate::connection::sending::Sending;
use crate::shared::{Shared, State};
use crate::worker::clients::Clients;
use crate::worker::clock::Clock;
use crate::worker::room::Pause;

/// The most connections that are accepted at once before it is open connections' turn.
const ACCEPTS_MAX: usize = 64;

/// The shortest time between two checks for expired connections. With thousands of connections a
/// check has a cost, and a tenth of a second does not matter to a client.
const LOOK: Duration = Duration::from_millis(100);

/// The data of epoll events for these descriptors; a connection's event has its index.
const LISTENER: u64 = u64::MAX;
const OPERATORS: u64 = u64::MAX - 1;
const WAKER: u64 = u64::MAX - 2;
const SIGNALS: u64 = u64::MAX - 3;

const NO_EVENT: epoll::Event =
    epoll::Event { flags: EventFlags::empty(), data: epoll::EventData::new_u64(0) };

/// The parts that a worker is built from.
#[derive(Debug)]
pub struct Setup {
    /// The worker's number, from 0.
    pub number: usize,
    /// The state that all workers share.
    pub shared: Arc<Shared>,
    /// The listening socket for clients.
    pub listener: Arc<OwnedFd>,
    /// The listening socket for operators, which only one worker has.
    pub operators: Option<OwnedFd>,
    /// The most connections at once.
    pub most: usize,
}

/// The reason why a turn of the loop has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// The work is done.
    Done,
    /// The descriptor for signals is readable.
    Signal,
    /// The caller's deadline has passed.
    Time,
}

/// A worker.
#[derive(Debug)]
pub struct Worker {
    setup: Setup,
    /// The current state and its number.
    state: (u64, Arc<State>),
    /// Answers made from a state before this one have been cut.
    oldest: u64,
    epoll: OwnedFd,
    clients: Clients,
    /// Set while the worker does not accept clients, because there is no room.
    pause: Option<Pause>,
    /// A moment before which no deadline passes.
    next_deadline: Option<Instant>,
    clock: Clock,
    stopping: bool,
    buffer: Vec<u8>,
}

impl Worker {
    /// Starts to wait for clients.
    pub fn new(setup: Setup) -> anyhow::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).context("cannot create an epoll")?;
        let state = setup.shared.state();
        let worker = Self {
            setup,
            state,
            oldest: 0,
            epoll,
            clients: Clients::default(),
            pause: None,
            next_deadline: None,
            clock: Clock::new(),
            stopping: false,
            buffer: vec![0; READ_SIZE],
        };
        let waker = worker.setup.shared.wakers.descriptor(worker.setup.number);
        worker.watch(waker, WAKER, EventFlags::IN)?;
        if let Some(operators) = &worker.setup.operators {
            worker.watch(operators.as_fd(), OPERATORS, EventFlags::IN)?;
        }
        worker.listen()?;
        Ok(worker)
    }

    /// Adds a descriptor whose events end a turn with [`Turn::Signal`].
    pub fn watch_signals(&self, signals: BorrowedFd<'_>) -> anyhow::Result<()> {
        self.watch(signals, SIGNALS, EventFlags::IN)
    }

    fn watch(&self, fd: BorrowedFd<'_>, data: u64, flags: EventFlags) -> anyhow::Result<()> {
        epoll::add(&self.epoll, fd, epoll::EventData::new_u64(data), flags)
            .context("cannot wait for a descriptor")
    }

    /// Serves until the workers are told to stop, then until the answers under way have ended.
    pub fn run(mut self) -> anyhow::Result<()> {
        while !self.setup.shared.is_stopping() {
            self.turn(None)?;
        }
        self.stop()
    }

    /// Does one turn of the loop, and waits at most until `until`.
    pub fn turn(&mut self, until: Option<Instant>) -> anyhow::Result<Turn> {
        let deadline = self.next_deadline.into_iter().chain(until).min();
        let mut events = [NO_EVENT; 128];
        let count = self.wait(&mut events, deadline)?;
        self.clock.update();
        self.take_state();
        let mut turn = Turn::Done;
        for event in &events[..count] {
            match event.data.u64() {
                LISTENER => self.accept(ACCEPTS_MAX),
                OPERATORS => self.accept_operator(),
                WAKER => self.woken(),
                SIGNALS => turn = Turn::Signal,
                index => self.serve(usize::try_from(index)?),
            }
        }
        self.expire();
        self.resume()?;
        let is_over = until.is_some_and(|until| until <= self.clock.now);
        Ok(if turn == Turn::Done && is_over { Turn::Time } else { turn })
    }

    fn wait(&self, events: &mut [epoll::Event], until: Option<Instant>) -> anyhow::Result<usize> {
        // The clock is from the start of this turn, so the wait may be too long by the time that
        // this turn has taken so far.
        let time = until.map(|until| until.saturating_duration_since(self.clock.now));
        let time = time.map(timespec);
        match epoll::wait(&self.epoll, events, time.as_ref()) {
            Ok(count) => Ok(count),
            Err(Errno::INTR) => Ok(0),
            Err(error) => Err(error).context("cannot wait for events"),
        }
    }

    fn woken(&self) {
        self.setup.shared.wakers.clear(self.setup.number);
    }

    /// Switches to a new state, and closes connections of slow readers that still hold an old one.
    fn take_state(&mut self) {
        if self.setup.shared.generation() != self.state.0 {
            self.state = self.setup.shared.state();
        }
        let oldest = self.setup.shared.oldest();
        if oldest == self.oldest {
            return;
        }
        self.oldest = oldest;
        let current = Arc::clone(&self.state.1);
        for index in 0..self.clients.indexes() {
            let client = self.clients.get(index);
            let source = client.and_then(|client| client.connection.answers_from());
            let is_old = source.is_some_and(|(generation, _)| generation < oldest);
            if is_old && source.is_some_and(|(_, source)| !current.shares(source)) {
                self.counters().cut.add(1);
                self.close(index);
            }
        }
    }

    fn counters(&self) -> &crate::shared::Counters {
        &self.setup.shared.counters[self.setup.number]
    }

    /// Accepts at most `most` clients from the queue, so that open connections get their turn.
    fn accept(&mut self, most: usize) {
        for _ in 0..most {
            if self.open() >= self.setup.most && !self.make_room() {
                return self.pause();
            }
            let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
            match accept_with(&*self.setup.listener, flags) {
                Ok(socket) => self.admit(socket, false),
                Err(Errno::AGAIN) => return,
                // Descriptors or memory have run out. Without a pause the loop would spin, because
                // the listener stays readable.
                Err(error @ (Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM)) => {
                    if !self.make_room() {
                        tracing::warn!("paused accepting connections: {error}");
                        return self.pause();
                    }
                }
                // Any other error concerns only the new connection.
                Err(_) => {}
            }
        }
    }

    fn accept_operator(&mut self) {
        let Some(operators) = &self.setup.operators else { return };
        if let Ok(socket) = accept_with(operators, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
            self.admit(socket, true);
        }
    }

    fn admit(&mut self, socket: OwnedFd, is_operator: bool) {
        let context =
            context(&self.state, &self.setup.shared, &self.clock, self.stopping, is_operator);
        let index = self.clients.add(Client::new(socket, is_operator, &context));
        self.counters().accepted.add(1);
        self.counters().open.set(self.open() as u64);
        // The request has often already arrived.
        self.serve(index);
    }

    /// Returns the number of open connections.
    const fn open(&self) -> usize {
        self.clients.open()
    }

    /// Serves one client as far as possible without waiting.
    fn serve(&mut self, index: usize) {
        let (shared, number) = (&self.setup.shared, self.setup.number);
        let (state, clock, stopping) = (&self.state, &self.clock, self.stopping);
        let (epoll, buffer) = (&self.epoll, &mut self.buffer);
        let served = self.clients.with(index, |client| {
            let context = context(state, shared, clock, stopping, client.is_operator);
            let finished = &mut |socket: &OwnedFd, sending| finish(shared, number, socket, sending);
            let mut tools = Tools { context: &context, buffer, finished };
            let open = client.serve(&mut tools) && client.follow(epoll, index, &context);
            (open, client.deadline())
        });
        match served {
            None => {}
            Some((true, deadline)) => {
                self.note(deadline);
                while let Some(index) = room::for_memory(&self.clients) {
                    self.evict(index);
                }
            }
            Some((false, _)) => self.close(index),
        }
    }

    fn close(&mut self, index: usize) {
        if self.clients.remove(index) {
            self.counters().open.set(self.open() as u64);
        }
    }

    /// Closes a client's connection to make room for others.
    fn evict(&mut self, index: usize) {
        self.counters().evicted.add(1);
        self.close(index);
    }

    /// Makes room for a new client; returns false if no client may be closed yet.
    fn make_room(&mut self) -> bool {
        let client = room::for_a_new_client(&self.clients, self.clock.now);
        client.map(|index| self.evict(index)).is_some()
    }

    /// Leaves new connections in the kernel's queue until there may be room.
    fn pause(&mut self) {
        if self.pause.is_none() && self.leave_listener() {
            self.pause = Some(Pause::new(self.clock.now, self.open()));
        }
    }

    fn leave_listener(&self) -> bool {
        epoll::delete(&self.epoll, &*self.setup.listener).is_ok()
    }

    /// Ends a pause when there may be room.
    fn resume(&mut self) -> anyhow::Result<()> {
        let Some(pause) = self.pause.filter(|_| !self.stopping) else { return Ok(()) };
        if let Some(until) = pause.lasts(self.clock.now, self.open()) {
            self.note(until);
            return Ok(());
        }
        self.pause = None;
        self.listen()
    }

    fn listen(&self) -> anyhow::Result<()> {
        let flags = EventFlags::IN | EventFlags::EXCLUSIVE;
        self.watch(self.setup.listener.as_fd(), LISTENER, flags)
    }

    fn note(&mut self, deadline: Instant) {
        self.next_deadline = Some(self.next_deadline.map_or(deadline, |next| next.min(deadline)));
    }

    /// Handles expired deadlines, and finds the next one.
    fn expire(&mut self) {
        let now = self.clock.now;
        if self.next_deadline.is_none_or(|next| next > now) {
            return;
        }
        self.next_deadline = None;
        for index in 0..self.clients.indexes() {
            let Some(deadline) = self.clients.get(index).map(Client::deadline) else { continue };
            if deadline > now {
                self.note(deadline.max(now + LOOK));
                continue;
            }
            let (state, shared) = (&self.state, &self.setup.shared);
            let (clock, stopping) = (&self.clock, self.stopping);
            let is_cut = self.clients.with(index, |client| {
                let was_answering = client.connection.is_answering();
                client.expired(&context(state, shared, clock, stopping, client.is_operator));
                was_answering && !client.connection.is_answering()
            });
            self.counters().cut.add(u64::from(is_cut == Some(true)));
            self.serve(index);
        }
    }

    /// Answers all requests that have arrived, including those in the queue, and closes idle
    /// connections.
    fn stop(&mut self) -> anyhow::Result<()> {
        let end = self.clock.now + DRAIN_TIME_MAX;
        self.stopping = true;
        self.accept(self.setup.most);
        self.leave_listener();
        for index in 0..self.clients.indexes() {
            let (state, shared, clock) = (&self.state, &self.setup.shared, &self.clock);
            let deadline = self.clients.with(index, |client| {
                client.connection.stop(&context(state, shared, clock, true, client.is_operator));
                client.deadline()
            });
            if let Some(deadline) = deadline {
                self.note(deadline);
                self.serve(index);
            }
        }
        while self.open() > 0 && self.clock.now < end {
            self.turn(Some(end))?;
        }
        if self.open() > 0 {
            tracing::warn!("cut {} connections", self.open());
        }
        Ok(())
    }
}

/// Counts and logs an answer that has been written.
fn finish(shared: &Shared, worker: usize, socket: &OwnedFd, mut sending: Box<Sending>) {
    let counters = &shared.counters[worker];
    let class = usize::from(sending.status() / 100).clamp(1, 5) - 1;
    counters.answers[class].add(1);
    counters.bytes.add(sending.total());
    if let Some((log, request)) = shared.log.as_ref().zip(sending.take_log()) {
        let mut members = Members::of(Civil::now(), &clock::peer(socket));
        members.append(&request);
        members.number("status", sending.status().into());
        members.number("bytes", sending.total());
        log.push(&members.line());
    }
}

/// Returns the part of the worker's state that connections see.
fn context<'a>(
    (generation, state): &'a (u64, Arc<State>),
    shared: &'a Shared,
    clock: &'a Clock,
    stopping: bool,
    is_operator: bool,
) -> Context<'a> {
    Context {
        serving: (!is_operator).then(|| state.serving(shared.is_ready(), clock.posix)),
        generation: *generation,
        about: shared,
        now: clock.now,
        date: &clock.date,
        limits: &state.limits,
        stopping,
        log: shared.log.is_some() && !is_operator,
    }
}
