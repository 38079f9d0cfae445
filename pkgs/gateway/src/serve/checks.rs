//! Periodic checks of backends: a connection, or a GET.

use std::collections::HashMap;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rustix::net::{getpeername, sockopt};

use super::waits::Waits;
use crate::config::{Check, ProxyVersion};
use crate::health::{self, Health, STATUS_BYTES_MAX};
use crate::net;
use crate::proxy;
use crate::state::{BackendKey, BackendState};

/// A check that is under way.
#[derive(Debug)]
struct Probe {
    stream: TcpStream,
    connected: bool,
    out: Vec<u8>,
    got: Vec<u8>,
    until: u64,
}

/// A backend that is checked.
#[derive(Debug)]
struct Checked {
    key: BackendKey,
    state: Arc<BackendState>,
    health: Health,
    /// The number of checks so far, so that several addresses are checked in turn.
    count: usize,
    next: u64,
    probe: Option<Probe>,
}

/// All backends that are checked.
#[derive(Debug, Default)]
pub(super) struct Checks {
    all: Vec<Checked>,
}

impl Checks {
    /// Adopts the backends that are in use. Backends that were in use before keep their health.
    pub(super) fn want(&mut self, backends: Vec<(BackendKey, Arc<BackendState>)>, now: u64) {
        let old = std::mem::take(&mut self.all).into_iter();
        // A backend that stays has the same state.
        let mut old: HashMap<*const BackendState, Checked> =
            old.map(|checked| (Arc::as_ptr(&checked.state), checked)).collect();
        for (key, state) in backends {
            let known = old.remove(&Arc::as_ptr(&state));
            self.all.push(known.unwrap_or_else(|| Checked {
                key,
                state,
                health: Health::default(),
                count: 0,
                next: now,
                probe: None,
            }));
        }
    }

    pub(super) fn turn(&mut self, now: u64) {
        self.all.iter_mut().for_each(|checked| checked.turn(now));
    }

    pub(super) fn next(&self) -> Option<u64> {
        let next =
            |checked: &Checked| checked.probe.as_ref().map_or(checked.next, |probe| probe.until);
        self.all.iter().map(next).min()
    }

    pub(super) fn waits<'a>(&'a self, waits: &mut Waits<'a>) {
        for probe in self.all.iter().filter_map(|checked| checked.probe.as_ref()) {
            if !probe.connected || !probe.out.is_empty() {
                waits.write(probe.stream.as_fd());
            } else {
                waits.read(probe.stream.as_fd());
            }
        }
    }
}

impl Checked {
    fn turn(&mut self, now: u64) {
        let Some(check) = self.key.1.clone() else { return };
        if let Some(probe) = &mut self.probe {
            let good = if now >= probe.until { Some(false) } else { probe.advance(&check) };
            if let Some(good) = good {
                self.probe = None;
                self.record(good, &check);
            }
        } else if now >= self.next {
            self.next = now + check.interval;
            self.begin(&check, now);
        }
    }

    fn begin(&mut self, check: &Check, now: u64) {
        // There is no address to check until DNS has answered.
        let Some(addresses) = self.state.addresses() else { return };
        let address = addresses.get(self.count % addresses.len().max(1)).map(|found| found.socket);
        self.count += 1;
        let mut out = match self.key.2 {
            Some(1) => proxy::local(ProxyVersion::V1),
            Some(_) => proxy::local(ProxyVersion::V2),
            None => Vec::new(),
        };
        out.extend(check.http.iter().flat_map(|get| health::request(get, &self.state.text)));
        let stream = address.and_then(|address| connect(address).ok());
        self.probe = stream.map(|stream| Probe {
            stream,
            connected: false,
            out,
            got: Vec::new(),
            until: now + check.timeout,
        });
        if self.probe.is_none() {
            self.record(false, check);
        }
    }

    fn record(&mut self, good: bool, check: &Check) {
        if self.health.record(good, check) {
            let up = self.health.is_up();
            self.state.up.store(up, Ordering::Relaxed);
            let text = &self.state.text;
            if up {
                tracing::info!("backend {text} is up");
            } else {
                tracing::warn!("backend {text} is down");
            }
        }
    }
}

impl Probe {
    /// Returns the result of the check, once it is known.
    fn advance(&mut self, check: &Check) -> Option<bool> {
        match self.try_advance(check) {
            Ok(verdict) => verdict,
            Err(error)
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) =>
            {
                None
            }
            Err(_) => Some(false),
        }
    }

    fn try_advance(&mut self, check: &Check) -> std::io::Result<Option<bool>> {
        if !self.connected {
            if getpeername(&self.stream).is_err() {
                sockopt::socket_error(&self.stream)??;
                return Ok(None);
            }
            self.connected = true;
        }
        while !self.out.is_empty() {
            let count = self.stream.write(&self.out)?;
            self.out.drain(..count);
        }
        let Some(get) = &check.http else { return Ok(Some(true)) };
        let mut buffer = [0; STATUS_BYTES_MAX];
        let count = self.stream.read(&mut buffer)?;
        self.got.extend_from_slice(&buffer[..count]);
        let verdict = health::verdict(get, &self.got);
        let over = count == 0 || self.got.len() > STATUS_BYTES_MAX;
        Ok(if over { Some(verdict == Some(true)) } else { verdict })
    }
}

fn connect(address: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = net::socket(address)?;
    net::begin_connect(&socket, address)?;
    Ok(socket.into())
}
