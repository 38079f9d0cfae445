//! The control thread: signals, reload, DNS, checks, and the operations port.
//!
//! Workers never wait for this thread; it wakes them when it has news.

mod build;
mod checks;
mod listen;
mod lookup;
mod ops;
mod reload;
mod waits;

use std::collections::VecDeque;
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use anyhow::Context as _;
use kiln_daemon::exit::Exit;
use kiln_daemon::signal::{Request, Requests};
use kiln_server::access::AccessLog;
use kiln_server::threads::{Wakers, spawn};
use rustix::net::{Shutdown, shutdown};

use crate::limits;
use crate::options::Options;
use crate::state::{Demand, Registry, Shared};
use crate::worker::Worker;
use build::{Builder, Built, Named, New, Retired, Step};
use checks::Checks;
use lookup::Lookup;
use ops::Ops;
use reload::Watched;
pub(crate) use reload::read;
use waits::Waits;

/// Milliseconds from SIGTERM to the exit, even if connections are still open.
const DRAIN_TIME: u64 = 25_000;

/// Milliseconds between two checks for open connections while draining.
const DRAIN_INTERVAL: u64 = 50;

/// Bytes of a worker's stack: its largest frame holds the events of one round.
const STACK: usize = 256 << 10;

/// The most steps of a new configuration in one turn, which take a few milliseconds.
const STEPS_MAX: usize = 1_000;

/// Everything that the control thread owns.
struct Control {
    shared: Arc<Shared>,
    /// The state of all backends; empty while a thread builds a new configuration.
    registry: Registry,
    named: Arc<Named>,
    builder: Builder,
    retired: Retired,
    /// The steps that are left until the names of the configuration in force are resolved.
    steps: VecDeque<Step>,
    watched: Watched,
    lookup: Lookup,
    checks: Checks,
    ops: Option<Ops>,
    /// The time of SIGTERM.
    ending: Option<u64>,
    drain_delay: u64,
    /// True once the listeners have been shut.
    shut: bool,
}

/// Serves until SIGTERM or SIGINT.
///
/// # Errors
/// Fails if the configuration is invalid, a socket cannot be opened, or the kernel refuses descriptors
/// or threads.
pub fn run(options: &Options) -> anyhow::Result<()> {
    let signals = Requests::new().context("cannot block signals")?;
    let workers = options.workers.unwrap_or_else(limits::workers);
    let limits = limits::descriptors(workers);
    let mut watched = Watched::new(options);
    let (file, ports) = watched.begin();
    let config = read(&file, ports).context(Exit::Config)?;
    let sockets = listen::open(&config, None)?;
    let new = build::prepare(config, sockets, Registry::default(), &Named::default());
    let ops = options.ops.map(Ops::open).transpose()?;
    let access = options.access_log.then(AccessLog::start).transpose()?;
    let shared = Shared::new(
        Arc::clone(&new.snapshot),
        Wakers::new(workers)?,
        Demand::new()?,
        limits,
        access,
    );
    let shared = Arc::new(shared);
    for number in 0..workers {
        start(Arc::clone(&shared), number)?;
    }
    let mut control = Control {
        shared,
        registry: Registry::default(),
        named: Arc::default(),
        builder: Builder::new()?,
        retired: Retired::default(),
        steps: VecDeque::new(),
        watched,
        lookup: Lookup::new(&options.resolv_conf, &options.hosts),
        checks: Checks::default(),
        ops,
        ending: None,
        drain_delay: u64::try_from(options.drain_delay.as_millis())?,
        shut: false,
    };
    control.adopt(new);
    listen::announce(&control.shared.snapshot(), workers, limits.connections_max);
    control.work(&signals)
}

fn start(shared: Arc<Shared>, number: usize) -> anyhow::Result<()> {
    let mut worker = Worker::new(shared, number).context("cannot create an epoll")?;
    let run = move || {
        if let Err(errno) = worker.run() {
            // The connections of this worker would hang, so the process exits and its supervisor
            // starts it again.
            tracing::error!("worker {number} cannot wait for events: {errno}");
            std::process::exit(i32::from(Exit::Software.code()));
        }
    };
    spawn(&format!("worker-{number}"), STACK, run)?;
    Ok(())
}

impl Control {
    fn work(&mut self, signals: &Requests) -> anyhow::Result<()> {
        loop {
            let now = self.shared.now();
            self.turn(now);
            if self.is_over(now) {
                tracing::info!(cut = self.open_connections(), "ended");
                return Ok(());
            }
            self.wait(signals)?;
            match signals.take().context("cannot read a signal")? {
                Some(Request::End) => self.begin_end(),
                Some(Request::Reload) => self.reload(true),
                None => {}
            }
        }
    }

    fn turn(&mut self, now: u64) {
        if self.watched.has_changed(now) {
            self.reload(false);
        }
        self.take_built();
        self.step(now);
        self.retired.turn();
        let changed = self.lookup.turn(now);
        self.publish_addresses(changed.iter().map(String::as_str));
        self.checks.turn(now);
        if let Some(ops) = &mut self.ops {
            ops.turn(now, &self.shared, self.ending.is_none());
        }
        if let Some(since) = self.ending {
            self.drain(now, since);
        }
    }

    fn wait(&self, signals: &Requests) -> anyhow::Result<()> {
        let mut waits = Waits::default();
        waits.read(signals.as_fd());
        waits.read(self.builder.descriptor());
        waits.read(self.shared.demand.waker.descriptor(0));
        self.lookup.waits(&mut waits);
        self.checks.waits(&mut waits);
        self.ops.iter().for_each(|ops| ops.waits(&mut waits));
        let now = self.shared.now();
        let drain = self.ending.map(|_| now + DRAIN_INTERVAL);
        let ops = self.ops.as_ref().and_then(Ops::next);
        let steps = (!self.steps.is_empty()).then_some(now);
        let watched = Some(self.watched.next());
        let next = [watched, self.lookup.next(), self.checks.next(), ops, steps, drain];
        let next = next.into_iter().flatten().min();
        waits.wait(next.map(|next| next.saturating_sub(now)))
    }

    /// Reads the file again, in a thread of its own.
    fn reload(&mut self, asked: bool) {
        if !self.builder.is_free(asked) {
            return;
        }
        let (file, ports) = self.watched.begin();
        let old = build::Old {
            snapshot: self.shared.snapshot(),
            registry: std::mem::take(&mut self.registry),
            named: Arc::clone(&self.named),
        };
        self.builder.start(file, ports, old, asked);
    }

    /// Takes the configuration that the thread has built. Open connections keep the one that they
    /// started with.
    fn take_built(&mut self) {
        let Some((built, asked)) = self.builder.take() else { return };
        let counters = &self.shared.counters;
        match built {
            // The listeners are closed, so no client could use a new configuration.
            Built::New(new) if self.shared.draining.load(Ordering::Acquire) => {
                self.registry = new.registry;
            }
            Built::New(new) => {
                counters.reloads.fetch_add(1, Ordering::Relaxed);
                let old = self.shared.snapshot();
                self.shared.publish(Arc::clone(&new.snapshot));
                listen::retire(&old, &new.snapshot);
                tracing::info!(routes = new.snapshot.routes.len(), "reloaded");
                let named = self.adopt(*new);
                self.retired.add(old, named);
            }
            Built::Same(registry) => {
                self.registry = registry;
                if asked {
                    tracing::info!("the configuration has not changed");
                }
            }
            Built::Refused(registry, error) => {
                self.registry = registry;
                counters.refused_reloads.fetch_add(1, Ordering::Relaxed);
                tracing::error!("the old configuration stays in force: {error:#}");
            }
        }
        if let Some(asked) = self.builder.take_again() {
            self.reload(asked);
        }
    }

    /// Begins to resolve and check the backends of the configuration in force; returns the names of
    /// the last one.
    fn adopt(&mut self, new: New) -> Arc<Named> {
        self.checks.want(new.checked, self.shared.now());
        self.registry = new.registry;
        self.steps.extend(new.steps);
        std::mem::replace(&mut self.named, new.named)
    }

    /// Takes some of the steps that are left.
    fn step(&mut self, now: u64) {
        let count = self.steps.len().min(STEPS_MAX);
        let mut publish = Vec::new();
        for step in self.steps.drain(..count) {
            match step {
                Step::Add(name) => self.lookup.add(&name, now),
                Step::Remove(name) => self.lookup.remove(&name),
                Step::Publish(name) => publish.push(name),
            }
        }
        self.publish_addresses(publish.iter().map(String::as_str));
        for name in self.shared.demand.take() {
            self.lookup.prefer(&name, now);
        }
    }

    /// Gives the backends with these names the addresses that DNS has found.
    fn publish_addresses<'a>(&self, names: impl Iterator<Item = &'a str>) {
        let states: Vec<_> = names.filter_map(|name| self.named.get(name)).flatten().collect();
        if states.is_empty() {
            return;
        }
        let ours = listen::own_addresses(&self.shared.snapshot());
        let mut changed = false;
        for state in states {
            if let Some(addresses) = self.lookup.addresses(&state.backend) {
                let addresses = listen::without_own(&ours, &state.text, addresses);
                changed |= state.set_addresses(&addresses);
            }
        }
        if changed {
            self.shared.wake();
        }
    }

    /// Begins the shutdown. A second signal changes nothing.
    fn begin_end(&mut self) {
        if self.ending.is_none() {
            tracing::info!(open = self.open_connections(), "ending");
            self.ending = Some(self.shared.now());
        }
    }

    /// Continues the shutdown: first `/ready` is 503 for a while, then workers stop accepting, then
    /// the listeners are shut.
    fn drain(&mut self, now: u64, since: u64) {
        if now < since + self.drain_delay {
            return;
        }
        if !self.shared.draining.swap(true, Ordering::Release) {
            self.shared.wake();
        } else if !self.shut {
            // The workers have accepted the clients that were in the kernel's queue by now.
            self.shut = true;
            for socket in &self.shared.snapshot().sockets {
                let _ = shutdown(socket, Shutdown::Both);
            }
        }
    }

    fn is_over(&self, now: u64) -> bool {
        let Some(since) = self.ending else { return false };
        (self.shut && self.open_connections() == 0) || now >= since + DRAIN_TIME
    }

    fn open_connections(&self) -> usize {
        self.shared.counters.open.load(Ordering::Relaxed)
    }
}
