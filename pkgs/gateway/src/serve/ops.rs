//! The port for operation: `/health`, `/ready` and `/metrics`.

use std::fmt::Write as _;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd as _;
use std::sync::atomic::Ordering;

use anyhow::Context as _;
use kiln_daemon::exit::Exit;
use rustix::event::PollFlags;

use super::Waits;
use crate::access;
use crate::state::{RouteCounters, Shared, Snapshot};

/// Clients at once.
const MOST_CLIENTS: usize = 16;

/// Most bytes of a request.
const MOST_OF_REQUEST: usize = 8 << 10;

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
    listener: TcpListener,
    clients: Vec<Client>,
}

impl Ops {
    pub(super) fn open(address: SocketAddr) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(address)
            .map_err(|error| {
                let later = error.kind() == ErrorKind::AddrInUse;
                anyhow::Error::new(error).context(if later { Exit::TempFail } else { Exit::Config })
            })
            .with_context(|| format!("listening on {address} for operation"))?;
        listener.set_nonblocking(true)?;
        tracing::info!("operation on {}", listener.local_addr()?);
        Ok(Self { listener, clients: Vec::new() })
    }

    pub(super) fn turn(&mut self, now: u64, shared: &Shared, ready: bool) {
        while self.clients.len() < MOST_CLIENTS {
            let Ok((stream, _)) = self.listener.accept() else { break };
            if stream.set_nonblocking(true).is_ok() {
                let until = now + TIME;
                self.clients.push(Client {
                    stream,
                    request: Vec::new(),
                    answer: Vec::new(),
                    until,
                });
            }
        }
        self.clients
            .retain_mut(|client| client.until > now && client.go_on(shared, ready).is_some());
    }

    pub(super) fn next(&self) -> Option<u64> {
        self.clients.iter().map(|client| client.until).min()
    }

    pub(super) fn waits<'a>(&'a self, waits: &mut Waits<'a>) {
        if self.clients.len() < MOST_CLIENTS {
            waits.push((self.listener.as_fd(), PollFlags::IN));
        }
        for client in &self.clients {
            let flags = if client.answer.is_empty() { PollFlags::IN } else { PollFlags::OUT };
            waits.push((client.stream.as_fd(), flags));
        }
    }
}

impl Client {
    /// Reads and answers as far as it goes; `None` when it is over.
    fn go_on(&mut self, shared: &Shared, ready: bool) -> Option<()> {
        if self.answer.is_empty() {
            let mut buffer = [0; 2048];
            match self.stream.read(&mut buffer) {
                Ok(0) => return None,
                Ok(count) => self.request.extend_from_slice(&buffer[..count]),
                Err(error) => return (error.kind() == ErrorKind::WouldBlock).then_some(()),
            }
            let whole = self.request.windows(4).any(|four| four == b"\r\n\r\n");
            if !whole {
                return (self.request.len() <= MOST_OF_REQUEST).then_some(());
            }
            self.answer = answer(&self.request, shared, ready);
        }
        match self.stream.write(&self.answer) {
            Ok(count) => {
                self.answer.drain(..count);
                (!self.answer.is_empty()).then_some(())
            }
            Err(error) => (error.kind() == ErrorKind::WouldBlock).then_some(()),
        }
    }
}

fn answer(request: &[u8], shared: &Shared, ready: bool) -> Vec<u8> {
    let line = request.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let mut words = line.split(|byte| *byte == b' ');
    let (method, path) = (words.next(), words.next().unwrap_or_default());
    let (status, body) = match path {
        _ if method != Some(b"GET") => ("405 Method Not Allowed", "only GET\n".to_owned()),
        b"/health" => ("200 OK", "ok\n".to_owned()),
        b"/ready" if ready => ("200 OK", "ready\n".to_owned()),
        b"/ready" => ("503 Service Unavailable", "ending\n".to_owned()),
        b"/metrics" => ("200 OK", metrics(shared, &shared.snapshot())),
        _ => ("404 Not Found", "/health, /ready, /metrics\n".to_owned()),
    };
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n\
         Content-Length: {length}\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n{body}"
    )
    .into_bytes()
}

/// Prometheus' text format. Labels are texts of the configuration, never of clients.
fn metrics(shared: &Shared, snapshot: &Snapshot) -> String {
    let mut out = String::new();
    let counters = &shared.counters;
    let load = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    let open = counters.open.load(Ordering::Relaxed);
    // Writing to a String cannot fail.
    let _ = writeln!(out, "# TYPE kiln_gateway_connections gauge\nkiln_gateway_connections {open}");
    for (name, value) in [
        ("accepted", load(&counters.accepted)),
        ("unrouted", load(&counters.unrouted)),
        ("unknown_name", load(&counters.unknown)),
        ("capped", load(&counters.capped)),
        ("accept_pauses", load(&counters.pauses)),
        ("reloads", load(&counters.reloads)),
        ("refused_reloads", load(&counters.refused_reloads)),
        ("dropped_log_lines", load(&counters.dropped_lines)),
    ] {
        let _ = writeln!(
            out,
            "# TYPE kiln_gateway_{name}_total counter\nkiln_gateway_{name}_total {value}"
        );
    }
    routes(&mut out, snapshot);
    backends(&mut out, snapshot);
    out
}

/// What is read of a route's counters.
type Figure = fn(&RouteCounters) -> u64;

fn routes(out: &mut String, snapshot: &Snapshot) {
    let figures: [(&str, Figure); 4] = [
        ("route_connections", |c| c.connections.load(Ordering::Relaxed)),
        ("route_up_bytes", |c| c.up.load(Ordering::Relaxed)),
        ("route_down_bytes", |c| c.down.load(Ordering::Relaxed)),
        ("route_unreachable", |c| c.unreachable.load(Ordering::Relaxed)),
    ];
    for (name, figure) in figures {
        let _ = writeln!(out, "# TYPE kiln_gateway_{name}_total counter");
        let mut said: Vec<&str> = Vec::new();
        for route in &snapshot.routes {
            // Routes of one name on several listeners share their counters.
            if said.contains(&route.label.as_str()) {
                continue;
            }
            said.push(&route.label);
            let _ = write!(out, "kiln_gateway_{name}_total{{route=");
            access::string(&route.label, out);
            let _ = writeln!(out, "}} {}", figure(&route.counters));
        }
    }
}

fn backends(out: &mut String, snapshot: &Snapshot) {
    let _ = writeln!(out, "# TYPE kiln_gateway_backend_up gauge");
    let mut said: Vec<(&str, &str)> = Vec::new();
    for route in &snapshot.routes {
        for backend in &route.backends {
            let key = (route.label.as_str(), backend.text.as_str());
            if said.contains(&key) {
                continue;
            }
            said.push(key);
            let up = u8::from(backend.up.load(Ordering::Relaxed));
            let _ = write!(out, "kiln_gateway_backend_up{{route=");
            access::string(key.0, out);
            out.push_str(",backend=");
            access::string(key.1, out);
            let _ = writeln!(out, "}} {up}");
        }
    }
}
