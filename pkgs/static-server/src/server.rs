//! Starts the threads, waits for signals, and shuts down.

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use kiln_daemon::exit::Exit;
use kiln_daemon::signal::{Request, Requests};
use kiln_server::access::AccessLog;
use kiln_server::threads::{Wakers, spawn};
use rustix::fd::{AsFd as _, OwnedFd};

use crate::docroot::Loaded;
use crate::folder::scan;
use crate::follow::{Bell, Follower, Seen, first};
use crate::listen::{self, Place};
use crate::machine::{self, Descriptors, descriptors};
use crate::options::Options;
use crate::shared::{Shared, State};
use crate::worker::{Setup, Turn, Worker};

/// The stack size of a worker, in bytes.
const STACK: usize = 512 << 10;

/// The stack size of the follower, in bytes, whose walk calls itself for every nested folder.
const FOLLOWER_STACK: usize = 2 << 20;

/// The parts of a server that do not depend on the origin of its content.
#[derive(Debug, Clone)]
pub struct Service {
    /// The place to listen at.
    pub place: Place,
    /// The address for liveness, readiness and metrics.
    pub operators: Option<SocketAddr>,
    /// The number of workers.
    pub workers: usize,
    /// The most connections of all workers together.
    pub connections: usize,
    /// True if answers are logged.
    pub access_log: bool,
    /// The time after SIGTERM during which the server is not ready but still accepts clients.
    pub drain_delay: Duration,
}

/// Serves until SIGTERM or SIGINT. `reread` reads the options again after SIGHUP.
pub fn run(options: &Options, reread: fn() -> anyhow::Result<Options>) -> anyhow::Result<()> {
    let signals = Requests::new().context("cannot block signals")?;
    let workers = options.workers.unwrap_or_else(machine::workers);
    let Descriptors { connections, files } = descriptors(workers, options.connections);
    let limits = scan::Limits { memory: options.memory_limit, open_files: files };
    let loaded = read(options, &limits)?;
    let seen = Seen::of(&loaded);
    let is_whole = loaded.is_whole();
    let state = State { content: loaded.content, limits: options.limits.clone(), is_whole };
    let service = Service {
        place: options.place(),
        operators: options.operators,
        workers,
        connections,
        access_log: options.access_log,
        drain_delay: options.drain_delay,
    };
    let bell = Arc::new(Bell::default());
    let told = Arc::clone(&bell);
    let follow = |shared| {
        let follower = Follower::new(shared, told, options.clone(), &limits, reread, &seen);
        spawn("follower", FOLLOWER_STACK, move || follower.run()).map(drop)
    };
    serve(&service, state, &signals, follow, || bell.ring())
}

/// Serves content until SIGTERM or SIGINT.
///
/// `follow` starts whatever replaces the content later, after the port is open; `reload` is called
/// on SIGHUP. `signals` must have been made before the first thread.
pub fn serve(
    service: &Service,
    state: State,
    signals: &Requests,
    follow: impl FnOnce(Arc<Shared>) -> anyhow::Result<()>,
    reload: impl Fn(),
) -> anyhow::Result<()> {
    let Service { place, workers, .. } = service;
    let listener = Arc::new(listen::open(place)?);
    let operators = service.operators.map(open_operators).transpose()?;
    let log = service.access_log.then(AccessLog::start).transpose()?;
    let shared = Arc::new(Shared::new(state, Wakers::new(*workers)?, log));
    follow(Arc::clone(&shared))?;
    let most = (service.connections / workers).max(1);
    let setup = |number, operators| {
        let (shared, listener) = (Arc::clone(&shared), Arc::clone(&listener));
        Setup { number, shared, listener, operators, most }
    };
    let first = Worker::new(setup(0, operators))?;
    first.watch_signals(signals.as_fd())?;
    let others = (1..*workers).map(|number| start_worker(setup(number, None)));
    let others = others.collect::<anyhow::Result<Vec<_>>>()?;
    tracing::info!("serving on {}", listen::name(&listener, place));
    drop(listener);
    until_signal(first, &shared, signals, reload, service.drain_delay)?;
    for other in others {
        other.join().map_err(|_| anyhow::anyhow!("a worker panicked"))??;
    }
    tracing::info!("stopped");
    Ok(())
}

/// Opens the operators' port.
fn open_operators(address: SocketAddr) -> anyhow::Result<OwnedFd> {
    let place = Place::Tcp(address);
    let operators = listen::open(&place)?;
    tracing::info!("operators' port on {}", listen::name(&operators, &place));
    Ok(operators)
}

/// Starts a worker in a thread of its own.
fn start_worker(setup: Setup) -> anyhow::Result<JoinHandle<anyhow::Result<()>>> {
    let worker = Worker::new(setup)?;
    spawn("worker", STACK, move || worker.run())
}

/// Reads the content. With `--strict`, anything wrong with it is an error.
fn read(options: &Options, limits: &scan::Limits) -> anyhow::Result<Loaded> {
    let start = Instant::now();
    let loaded = first(options, limits).context(Exit::Config)?;
    for note in &loaded.notes {
        tracing::warn!("{note}");
    }
    if options.strict && !loaded.notes.is_empty() {
        let text = "--strict: the content has the problems logged above";
        bail!(anyhow::anyhow!(text).context(Exit::Config));
    }
    let paths: usize = loaded.content.sites().map(|site| site.entries.len()).sum();
    let bytes: u64 = loaded.content.sites().map(|site| site.content_bytes()).sum();
    let millis = start.elapsed().as_millis();
    let path = options.docroot().path().display().to_string();
    tracing::info!(paths, bytes, millis, "{path} has been read");
    Ok(loaded)
}

/// Serves in this thread until the signal to stop, then until all connections have ended.
fn until_signal(
    mut worker: Worker,
    shared: &Shared,
    signals: &Requests,
    reload: impl Fn(),
    delay: Duration,
) -> anyhow::Result<()> {
    let mut end = None;
    while end.is_none_or(|end| Instant::now() < end) {
        if worker.turn(end)? != Turn::Signal {
            continue;
        }
        while let Some(request) = signals.take().context("cannot read a signal")? {
            match request {
                Request::Reload => reload(),
                Request::End if end.is_none() => {
                    tracing::info!("stopping");
                    shared.leave();
                    end = Some(Instant::now() + delay);
                }
                // A second signal skips the delay.
                Request::End => end = Some(Instant::now()),
            }
        }
    }
    shared.stop();
    worker.run()
}
