//! The operations port: `/live`, `/ready` and `/metrics`.

use std::collections::HashSet;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context as _;
use kiln_server::listen::{failure, local_address, tcp};
use kiln_server::ops::{Kind, Metrics, Page, page};
use kiln_server::threads::{Wakers, spawn};
use rustix::net::{SocketFlags, accept_with};

use super::waits::Waits;
use crate::state::{RouteCounters, Shared, Snapshot};

/// The most clients at once.
const CLIENTS_MAX: usize = 16;

/// The most bytes of a request.
const REQUEST_BYTES_MAX: usize = 8 << 10;

/// Milliseconds for a request and its answer.
const TIME: u64 = 5_000;

/// The most routes whose metrics are written by the control thread itself, which takes about a
/// millisecond.
const ROUTES_MAX: usize = 1_000;

/// Bytes of the stack of a thread that writes metrics.
const STACK: usize = 256 << 10;

/// A client.
#[derive(Debug)]
struct Client {
    stream: TcpStream,
    state: State,
    until: u64,
}

#[derive(Debug)]
enum State {
    /// Reads the request.
    Asks(Vec<u8>),
    /// Waits for the thread that writes metrics.
    Waits(Arc<Mutex<Option<Vec<u8>>>>),
    /// Writes the answer, of which this many bytes have been sent.
    Answers(Vec<u8>, usize),
}

/// The open port.
#[derive(Debug)]
pub(super) struct Ops {
    listener: OwnedFd,
    clients: Vec<Client>,
    /// Wakes the control thread when metrics are written.
    waker: Arc<Wakers>,
}

impl Ops {
    pub(super) fn open(address: SocketAddr) -> anyhow::Result<Self> {
        let listener = tcp(address, None).map_err(|errno| failure(errno, &address))?;
        let address = local_address(&listener).context("cannot read the address of a socket")?;
        tracing::info!("operations on {address}");
        Ok(Self { listener, clients: Vec::new(), waker: Arc::new(Wakers::new(1)?) })
    }

    /// Accepts clients, and reads and answers as much as possible.
    pub(super) fn turn(&mut self, now: u64, shared: &Arc<Shared>, is_ready: bool) {
        if self.clients.iter().any(|client| matches!(client.state, State::Waits(_))) {
            self.waker.clear(0);
        }
        while self.clients.len() < CLIENTS_MAX {
            let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
            let Ok(socket) = accept_with(&self.listener, flags) else { break };
            self.clients.push(Client {
                stream: socket.into(),
                state: State::Asks(Vec::new()),
                until: now + TIME,
            });
        }
        let waker = &self.waker;
        self.clients.retain_mut(|client| {
            client.until > now && client.advance(shared, is_ready, waker) == Progress::Waits
        });
    }

    /// Returns the earliest deadline of a client.
    pub(super) fn next(&self) -> Option<u64> {
        self.clients.iter().map(|client| client.until).min()
    }

    pub(super) fn waits<'a>(&'a self, waits: &mut Waits<'a>) {
        if self.clients.len() < CLIENTS_MAX {
            waits.read(self.listener.as_fd());
        }
        waits.read(self.waker.descriptor(0));
        for client in &self.clients {
            match client.state {
                State::Asks(_) => waits.read(client.stream.as_fd()),
                State::Waits(_) => {}
                State::Answers(..) => waits.write(client.stream.as_fd()),
            }
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    /// Nothing can be done before the next event.
    Waits,
    /// The client has been answered, or has disconnected.
    Ended,
}

impl Client {
    fn advance(&mut self, shared: &Arc<Shared>, is_ready: bool, waker: &Arc<Wakers>) -> Progress {
        match self.try_advance(shared, is_ready, waker) {
            Ok(progress) => progress,
            Err(error) if error.kind() == ErrorKind::WouldBlock => Progress::Waits,
            Err(_) => Progress::Ended,
        }
    }

    fn try_advance(
        &mut self,
        shared: &Arc<Shared>,
        is_ready: bool,
        waker: &Arc<Wakers>,
    ) -> std::io::Result<Progress> {
        loop {
            match &mut self.state {
                State::Asks(request) => {
                    let mut buffer = [0; 2048];
                    let count = self.stream.read(&mut buffer)?;
                    request.extend_from_slice(&buffer[..count]);
                    let is_whole = request.windows(4).any(|four| four == b"\r\n\r\n");
                    if count == 0 || (!is_whole && request.len() > REQUEST_BYTES_MAX) {
                        return Ok(Progress::Ended);
                    }
                    if !is_whole {
                        return Ok(Progress::Waits);
                    }
                    self.state = asked(request, shared, is_ready, waker);
                }
                State::Waits(result) => {
                    let answer = result.lock().unwrap_or_else(PoisonError::into_inner).take();
                    let Some(answer) = answer else { return Ok(Progress::Waits) };
                    self.state = State::Answers(answer, 0);
                }
                State::Answers(answer, sent) => {
                    while *sent < answer.len() {
                        *sent += self.stream.write(&answer[*sent..])?;
                    }
                    return Ok(Progress::Ended);
                }
            }
        }
    }
}

/// Answers a whole request. The metrics of many routes are written in a thread of their own.
fn asked(request: &[u8], shared: &Arc<Shared>, is_ready: bool, waker: &Arc<Wakers>) -> State {
    let line = request.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let snapshot = shared.snapshot();
    if !line.starts_with(b"GET /metrics ") || snapshot.routes.len() <= ROUTES_MAX {
        return State::Answers(answer(line, shared, is_ready), 0);
    }
    let result = Arc::new(Mutex::new(None));
    let (out, state, waker) = (Arc::clone(&result), Arc::clone(shared), Arc::clone(waker));
    let write = move || {
        let answer = answer(b"GET /metrics", &state, is_ready);
        *out.lock().unwrap_or_else(PoisonError::into_inner) = Some(answer);
        waker.wake();
    };
    match spawn("metrics", STACK, write) {
        Ok(_) => State::Waits(result),
        Err(_) => State::Answers(answer(line, shared, is_ready), 0),
    }
}

fn answer(line: &[u8], shared: &Shared, is_ready: bool) -> Vec<u8> {
    let mut words = line.split(|byte| *byte == b' ');
    let (method, path) = (words.next(), words.next().unwrap_or_default());
    let found = page(path, is_ready, || metrics(shared, &shared.snapshot()));
    let Page { status, text } = match found {
        _ if method != Some(b"GET") => {
            Page { status: "405 Method Not Allowed", text: "only GET is allowed\n".into() }
        }
        Some(page) => page,
        None => Page { status: "404 Not Found", text: "try /live, /ready or /metrics\n".into() },
    };
    let length = text.len();
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n\
         Content-Length: {length}\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n{text}"
    )
    .into_bytes()
}

/// Returns the metrics. Labels come from the configuration, never from clients.
fn metrics(shared: &Shared, snapshot: &Snapshot) -> String {
    let mut out = Metrics::new("kiln_gateway_");
    let counters = &shared.counters;
    let open = counters.open.load(Ordering::Relaxed) as u64;
    out.add("connections", Kind::Gauge, "Open connections", open);
    let figures: [(&str, &str, &AtomicU64); 7] = [
        ("accepted_total", "Accepted connections", &counters.accepted),
        ("unrouted_total", "Connections that ended before they had a route", &counters.unrouted),
        ("unknown_name_total", "Connections whose name has no route", &counters.unknown),
        ("capped_total", "Connections closed by a cap of their listener", &counters.capped),
        (
            "accept_pauses_total",
            "Times that accepting paused because there was no room",
            &counters.pauses,
        ),
        ("reloads_total", "New configurations in force", &counters.reloads),
        ("refused_reloads_total", "Configurations that were refused", &counters.refused_reloads),
    ];
    for (name, help, value) in figures {
        out.add(name, Kind::Counter, help, value.load(Ordering::Relaxed));
    }
    let dropped = shared.access.as_ref().map_or(0, |log| log.dropped());
    out.add("dropped_log_lines_total", Kind::Counter, "Dropped lines of the access log", dropped);
    routes(&mut out, snapshot);
    backends(&mut out, snapshot);
    out.into_text()
}

/// Reads one of a route's counters.
type Figure = fn(&RouteCounters) -> &AtomicU64;

fn routes(out: &mut Metrics, snapshot: &Snapshot) {
    let figures: [(&str, &str, Figure); 4] = [
        ("route_connections_total", "Routed connections", |c| &c.connections),
        ("route_up_bytes_total", "Bytes from clients", |c| &c.up),
        ("route_down_bytes_total", "Bytes to clients", |c| &c.down),
        ("route_unreachable_total", "Connections without a reachable backend", |c| &c.unreachable),
    ];
    for (name, help, figure) in figures {
        out.begin(name, Kind::Counter, help);
        let mut written: HashSet<&str> = HashSet::new();
        for route in &snapshot.routes {
            // Routes with the same name on several listeners share their counters.
            if !written.insert(&route.label) {
                continue;
            }
            let value = figure(&route.counters).load(Ordering::Relaxed);
            out.sample(name, &[("route", &route.label)], value);
        }
    }
}

fn backends(out: &mut Metrics, snapshot: &Snapshot) {
    out.begin("backend_up", Kind::Gauge, "1 if the checks of the backend succeed");
    let mut written: HashSet<(&str, &str)> = HashSet::new();
    for route in &snapshot.routes {
        for backend in &route.backends {
            let key = (route.label.as_str(), backend.text.as_str());
            if !written.insert(key) {
                continue;
            }
            let up = u64::from(backend.up.load(Ordering::Relaxed));
            out.sample("backend_up", &[("route", key.0), ("backend", key.1)], up);
        }
    }
}
