//! The control thread: signals, reload, DNS, checks, and the port for operation.
//!
//! Workers never wait for anything that happens here; they are told when there is news.

mod checks;
mod listen;
mod lookup;
mod ops;
mod reload;

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use anyhow::Context as _;
use kiln_daemon::exit::Exit;
use kiln_daemon::signal::Termination;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::Errno;
use rustix::net::{Shutdown, shutdown};

use crate::access::Access;
use crate::limits;
use crate::options::Options;
use crate::state::{Registry, Shared};
use crate::worker::Worker;
use checks::Checks;
use lookup::Lookup;
use ops::Ops;
use reload::Watched;
pub(crate) use reload::read;

/// Milliseconds from SIGTERM to the end, whatever is open.
const DRAIN_TIME: u64 = 25_000;

/// Milliseconds between two looks at what is still open while draining.
const DRAIN_LOOK: u64 = 50;

/// Bytes of a worker's stack: its largest frame holds the events of one turn.
const STACK: usize = 256 << 10;

/// A socket, and what is waited for on it.
type Waits<'a> = Vec<(BorrowedFd<'a>, PollFlags)>;

/// What this thread owns.
struct Control {
    shared: Arc<Shared>,
    registry: Registry,
    watched: Watched,
    lookup: Lookup,
    checks: Checks,
    ops: Option<Ops>,
    /// Since SIGTERM.
    ending: Option<u64>,
    drain_delay: u64,
    /// Listeners have been closed.
    deaf: bool,
}

/// Serves until SIGTERM or SIGINT.
pub fn run(options: &Options) -> anyhow::Result<()> {
    let termination = Termination::new().context("blocking SIGTERM and SIGINT")?;
    let hangup = hangup().context("blocking SIGHUP")?;
    let workers = options.workers.unwrap_or_else(limits::workers);
    let limits::Descriptors { connections, pipes } = limits::descriptors(workers);
    let mut watched = Watched::new(options);
    let config = watched.load().context(Exit::Config)?;
    let sockets = listen::open(&config, None)?;
    let ops = options.ops.map(Ops::open).transpose()?;
    let mut registry = Registry::default();
    let snapshot = Arc::new(registry.snapshot(config, sockets));
    let access =
        options.access_log.then(Access::start).transpose().context("starting the access log")?;
    let wakes = wakes(workers).context("creating event descriptors")?;
    let shared = Arc::new(Shared::new(snapshot, wakes, connections, pipes, access));
    start(&shared, workers)?;
    let lookup = Lookup::new(&options.resolv_conf, &options.hosts);
    let drain_delay = u64::try_from(options.drain_delay.as_millis())?;
    let mut control = Control {
        shared,
        registry,
        watched,
        lookup,
        checks: Checks::default(),
        ops,
        ending: None,
        drain_delay,
        deaf: false,
    };
    control.adopt();
    listen::announce(&control.shared.snapshot(), workers, connections);
    control.work(&termination, &hangup)
}

fn hangup() -> nix::Result<SignalFd> {
    let mut set = SigSet::empty();
    set.add(Signal::SIGHUP);
    set.thread_block()?;
    SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
}

fn wakes(count: usize) -> rustix::io::Result<Vec<OwnedFd>> {
    (0..count).map(|_| eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)).collect()
}

fn start(shared: &Arc<Shared>, workers: usize) -> anyhow::Result<()> {
    for number in 0..workers {
        let mut worker = Worker::new(Arc::clone(shared), number).context("creating an epoll")?;
        let body = move || {
            if let Err(errno) = worker.run() {
                // Without this worker its connections would hang: the supervisor starts us anew.
                tracing::error!("worker {number} cannot wait for events: {errno}");
                std::process::exit(i32::from(Exit::Software.code()));
            }
        };
        let thread = std::thread::Builder::new().name(format!("worker-{number}")).stack_size(STACK);
        thread.spawn(body).context("starting a worker")?;
    }
    Ok(())
}

impl Control {
    fn work(&mut self, termination: &Termination, hangup: &SignalFd) -> anyhow::Result<()> {
        loop {
            let now = self.shared.now();
            self.turn(now);
            if self.ending.is_some() && self.is_over(now) {
                tracing::info!(cut = self.shared.counters.open.load(Ordering::Relaxed), "ended");
                return Ok(());
            }
            self.wait(termination.as_fd(), hangup.as_fd())?;
            if termination.take().context("reading signals")? {
                self.terminated();
            }
            if hangup.read_signal().context("reading signals")?.is_some() {
                self.reload(true);
            }
        }
    }

    fn turn(&mut self, now: u64) {
        if self.watched.has_changed(now) {
            self.reload(false);
        }
        if self.lookup.turn(now) {
            self.resolved();
        }
        self.checks.turn(now);
        if let Some(ops) = &mut self.ops {
            ops.turn(now, &self.shared, self.ending.is_none());
        }
        if let Some(since) = self.ending {
            self.drain(now, since);
        }
    }

    fn wait(&self, termination: BorrowedFd<'_>, hangup: BorrowedFd<'_>) -> anyhow::Result<()> {
        let mut waits: Waits<'_> = vec![(termination, PollFlags::IN), (hangup, PollFlags::IN)];
        if self.ending.is_some() {
            // A second signal changes nothing.
            waits.remove(0);
        }
        self.lookup.waits(&mut waits);
        self.checks.waits(&mut waits);
        self.ops.iter().for_each(|ops| ops.waits(&mut waits));
        let mut fds: Vec<PollFd<'_>> =
            waits.iter().map(|(fd, flags)| PollFd::from_borrowed_fd(*fd, *flags)).collect();
        let now = self.shared.now();
        let look = self.ending.map(|_| now + DRAIN_LOOK);
        let ops = self.ops.as_ref().and_then(Ops::next);
        let next = [Some(self.watched.next()), self.lookup.next(), self.checks.next(), ops, look];
        let next = next.into_iter().flatten().min();
        let time = next.map(|next| next.saturating_sub(now).min(60_000));
        let time = time.map(|millis| Timespec {
            tv_sec: i64::try_from(millis / 1000).unwrap_or(60),
            tv_nsec: i64::try_from(millis % 1000 * 1_000_000).unwrap_or(0),
        });
        match poll(&mut fds, time.as_ref()) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(errno) => Err(errno).context("waiting for events"),
        }
    }

    /// Reads the file again. Live connections keep what they began with.
    fn reload(&mut self, asked: bool) {
        let old = self.shared.snapshot();
        let counters = &self.shared.counters;
        let new = self.watched.load().and_then(|config| {
            if config == old.config {
                return Ok(None);
            }
            let sockets = listen::open(&config, Some(&old))?;
            Ok(Some((config, sockets)))
        });
        match new {
            Ok(Some((config, sockets))) => {
                counters.reloads.fetch_add(1, Ordering::Relaxed);
                let snapshot = Arc::new(self.registry.snapshot(config, sockets));
                self.shared.publish(Arc::clone(&snapshot));
                listen::retire(&old, &snapshot);
                self.adopt();
                tracing::info!(routes = snapshot.routes.len(), "reloaded");
            }
            Ok(None) if asked => tracing::info!("nothing has changed"),
            Ok(None) => {}
            Err(error) => {
                counters.refused_reloads.fetch_add(1, Ordering::Relaxed);
                tracing::error!("the old configuration stays: {error:#}");
            }
        }
    }

    /// Begins to resolve and to check what the configuration in force names.
    fn adopt(&mut self) {
        let now = self.shared.now();
        self.lookup.want(self.registry.backends().map(|(_, state)| &state.backend), now);
        self.checks.want(&self.registry, now);
        listen::forbid_loops(&self.shared.snapshot(), &self.registry);
        if self.lookup.turn(now) {
            self.resolved();
        }
    }

    /// DNS has news: backends get their addresses, but for those that are our own.
    fn resolved(&self) {
        let snapshot = self.shared.snapshot();
        let mut changed = false;
        for (_, state) in self.registry.backends() {
            if let Some(addresses) = self.lookup.addresses(&state.backend) {
                let addresses = listen::without_own(&snapshot, &state.text, addresses);
                changed |= state.set_addresses(addresses);
            }
        }
        if changed {
            self.shared.tell();
        }
    }

    fn terminated(&mut self) {
        let now = self.shared.now();
        if self.ending.is_none() {
            tracing::info!(open = self.shared.counters.open.load(Ordering::Relaxed), "ending");
            self.ending = Some(now);
        }
    }

    /// First `/ready` says no for a while, then nobody is let in, then the door is shut.
    fn drain(&mut self, now: u64, since: u64) {
        if now < since + self.drain_delay {
            return;
        }
        if !self.shared.draining.swap(true, Ordering::Release) {
            self.shared.tell();
        } else if !self.deaf {
            // By now workers have taken those who waited in the queue.
            self.deaf = true;
            for socket in &self.shared.snapshot().sockets {
                let _ = shutdown(socket, Shutdown::Both);
            }
        }
    }

    fn is_over(&self, now: u64) -> bool {
        let Some(since) = self.ending else { return false };
        let open = self.shared.counters.open.load(Ordering::Relaxed);
        (self.deaf && open == 0) || now >= since + DRAIN_TIME
    }
}
