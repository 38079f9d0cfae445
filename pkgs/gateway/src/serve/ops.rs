//! The operations port: `/live`, `/ready` and `/metrics`.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Context as _;
use kiln_server::listen::{failure, local_address, tcp};
use kiln_server::ops::{Kind, Metrics, Page, page};
use rustix::net::{SocketFlags, accept_with};

use super::waits::Waits;
use crate::state::{RouteCounters, Shared, Snapshot};

/// The most clients at once.
const CLIENTS_MAX: usize = 16;

/// The most bytes of a request.
const REQUEST_BYTES_MAX: usize = 8 << 10;

/// Milliseconds for a request and its answer.
const TIME: u64 = 5_000;

/// A client.
#[derive(Debug)]
struct Client {
    stream: TcpStream,
    request: Vec<u8>,
    answer: Vec<u8>,
    until: u64,
}

/// The open port.
#[derive(Debug)]
pub(super) struct Ops {
    listener: OwnedFd,
    clients: Vec<Client>,
}

impl Ops {
    pub(super) fn open(address: SocketAddr) -> anyhow::Result<Self> {
        let listener = tcp(address, None).map_err(|errno| failure(errno, &address))?;
        let address = local_address(&listener).context("cannot read the address of a socket")?;
        tracing::info!("operations on {address}");
        Ok(Self { listener, clients: Vec::new() })
    }

    /// Accepts clients, and reads and answers as much as possible.
    pub(super) fn turn(&mut self, now: u64, shared: &Shared, is_ready: bool) {
        while self.clients.len() < CLIENTS_MAX {
            let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
            let Ok(socket) = accept_with(&self.listener, flags) else { break };
            self.clients.push(Client {
                stream: socket.into(),
                request: Vec::new(),
                answer: Vec::new(),
                until: now + TIME,
            });
        }
        self.clients.retain_mut(|client| {
            client.until > now && client.advance(shared, is_ready) == Progress::Waits
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
        for client in &self.clients {
            if client.answer.is_empty() {
                waits.read(client.stream.as_fd());
            } else {
                waits.write(client.stream.as_fd());
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
    fn advance(&mut self, shared: &Shared, is_ready: bool) -> Progress {
        match self.try_advance(shared, is_ready) {
            Ok(progress) => progress,
            Err(error) if error.kind() == ErrorKind::WouldBlock => Progress::Waits,
            Err(_) => Progress::Ended,
        }
    }

    fn try_advance(&mut self, shared: &Shared, is_ready: bool) -> std::io::Result<Progress> {
        if self.answer.is_empty() {
            let mut buffer = [0; 2048];
            let count = self.stream.read(&mut buffer)?;
            self.request.extend_from_slice(&buffer[..count]);
            let is_whole = self.request.windows(4).any(|four| four == b"\r\n\r\n");
            if count == 0 || (!is_whole && self.request.len() > REQUEST_BYTES_MAX) {
                return Ok(Progress::Ended);
            }
            if !is_whole {
                return Ok(Progress::Waits);
            }
            self.answer = answer(&self.request, shared, is_ready);
        }
        let count = self.stream.write(&self.answer)?;
        self.answer.drain(..count);
        Ok(if self.answer.is_empty() { Progress::Ended } else { Progress::Waits })
    }
}

fn answer(request: &[u8], shared: &Shared, is_ready: bool) -> Vec<u8> {
    let line = request.split(|byte| *byte == b'\r').next().unwrap_or_default();
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
        let mut written: Vec<&str> = Vec::new();
        for route in &snapshot.routes {
            // Routes with the same name on several listeners share their counters.
            if written.contains(&route.label.as_str()) {
                continue;
            }
            written.push(&route.label);
            let value = figure(&route.counters).load(Ordering::Relaxed);
            out.sample(name, &[("route", &route.label)], value);
        }
    }
}

fn backends(out: &mut Metrics, snapshot: &Snapshot) {
    out.begin("backend_up", Kind::Gauge, "1 if the checks of the backend succeed");
    let mut written: Vec<(&str, &str)> = Vec::new();
    for route in &snapshot.routes {
        for backend in &route.backends {
            let key = (route.label.as_str(), backend.text.as_str());
            if written.contains(&key) {
                continue;
            }
            written.push(key);
            let up = u64::from(backend.up.load(Ordering::Relaxed));
            out.sample("backend_up", &[("route", key.0), ("backend", key.1)], up);
        }
    }
}
