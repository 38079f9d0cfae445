//! The resolver's sockets: one per question, so that each has its own port and receives only from its
//! own server.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher as _, RandomState};
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use super::waits::Waits;
use crate::config::{Backend, Host};
use crate::dns::conf::Conf;
use crate::dns::resolver::{Action, QueryId, Resolver};
use crate::net;

/// Milliseconds between two checks of resolv.conf and hosts.
const CHECK_INTERVAL: u64 = 5_000;

/// The most bytes of a response.
const RESPONSE_BYTES_MAX: usize = 65_535;

/// A question's socket.
#[derive(Debug)]
enum Socket {
    Udp(UdpSocket),
    Tcp { stream: TcpStream, out: Vec<u8>, got: Vec<u8> },
}

/// The resolver with its sockets and files.
#[derive(Debug)]
pub(super) struct Lookup {
    resolver: Resolver,
    sockets: BTreeMap<QueryId, Socket>,
    files: [PathBuf; 2],
    texts: [String; 2],
    next_check: u64,
    random: RandomState,
    count: u64,
}

impl Lookup {
    pub(super) fn new(resolv_conf: &Path, hosts: &Path) -> Self {
        let files = [resolv_conf.to_owned(), hosts.to_owned()];
        let texts = files.each_ref().map(read);
        let resolver = Resolver::new(Conf::parse(&texts[0], &texts[1]));
        Self {
            resolver,
            sockets: BTreeMap::new(),
            files,
            texts,
            next_check: 0,
            random: RandomState::new(),
            count: 0,
        }
    }

    /// Resolves a name from now on.
    pub(super) fn add(&mut self, name: &str, now: u64) {
        self.resolver.add(name, now);
    }

    /// Resolves a name no longer.
    pub(super) fn remove(&mut self, name: &str) {
        let actions = self.resolver.remove(name);
        self.act(actions);
    }

    /// Resolves a name before all others, because a client waits for it.
    pub(super) fn prefer(&mut self, name: &str, now: u64) {
        self.resolver.prefer(name, now);
    }

    /// Returns the addresses of a backend that is configured by name, once they are known.
    pub(super) fn addresses(&self, backend: &Backend) -> Option<Vec<SocketAddr>> {
        let Host::Name(name) = &backend.host else { return None };
        let addresses = self.resolver.addresses(name)?;
        Some(addresses.iter().map(|ip| SocketAddr::new(*ip, backend.port)).collect())
    }

    /// Reads responses and sends the questions that are due; returns the names whose addresses may
    /// have changed.
    pub(super) fn turn(&mut self, now: u64) -> BTreeSet<String> {
        self.check_files(now);
        let mut news = self.resolver.next().is_some_and(|next| next <= now);
        let mut buffer = vec![0; if self.sockets.is_empty() { 0 } else { RESPONSE_BYTES_MAX }];
        let queries: Vec<QueryId> = self.sockets.keys().copied().collect();
        for query in queries {
            news |= self.receive(query, &mut buffer);
        }
        if news {
            let (random, count) = (&self.random, &mut self.count);
            // A keyed hash of a counter, so that the next number cannot be guessed from earlier ones.
            let mut number = || {
                *count += 1;
                u16::try_from(random.hash_one(*count) & 0xffff).unwrap_or(0)
            };
            let actions = self.resolver.turn(now, &mut number);
            self.act(actions);
        }
        self.resolver.take_changed()
    }

    fn check_files(&mut self, now: u64) {
        if now < self.next_check {
            return;
        }
        self.next_check = now + CHECK_INTERVAL;
        let texts = self.files.each_ref().map(read);
        // An empty file is still being written.
        if texts != self.texts && !texts[0].is_empty() {
            let actions = self.resolver.configure(Conf::parse(&texts[0], &texts[1]), now);
            self.act(actions);
            self.texts = texts;
        }
    }

    pub(super) fn next(&self) -> Option<u64> {
        let resolver = self.resolver.next();
        // The files do not matter if there are no names to resolve.
        resolver.map(|next| next.min(self.next_check))
    }

    pub(super) fn waits<'a>(&'a self, waits: &mut Waits<'a>) {
        for socket in self.sockets.values() {
            match socket {
                Socket::Udp(socket) => waits.read(socket.as_fd()),
                Socket::Tcp { stream, out, .. } if out.is_empty() => waits.read(stream.as_fd()),
                Socket::Tcp { stream, .. } => waits.write(stream.as_fd()),
            }
        }
    }

    fn act(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Close(query) => drop(self.sockets.remove(&query)),
                Action::Send { query, server, tcp, packet } => {
                    let opened =
                        if tcp { over_tcp(server, &packet) } else { over_udp(server, &packet) };
                    match opened {
                        Ok(socket) => drop(self.sockets.insert(query, socket)),
                        Err(_) => self.resolver.failed(query),
                    }
                }
            }
        }
    }

    /// Reads the response to a question; returns true if the resolver has learned something.
    fn receive(&mut self, query: QueryId, buffer: &mut [u8]) -> bool {
        let Some(socket) = self.sockets.get_mut(&query) else { return false };
        let packet = match socket {
            Socket::Udp(socket) => socket.recv(buffer).map(|count| Some(buffer[..count].to_vec())),
            Socket::Tcp { stream, out, got } => exchange(stream, out, got, buffer),
        };
        match packet {
            Ok(Some(packet)) => {
                let actions = self.resolver.received(query, &packet);
                self.act(actions);
                true
            }
            Ok(None) => false,
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::WouldBlock | ErrorKind::Interrupted | ErrorKind::NotConnected
                ) =>
            {
                false
            }
            Err(_) => {
                self.sockets.remove(&query);
                self.resolver.failed(query);
                true
            }
        }
    }
}

fn read(file: &PathBuf) -> String {
    std::fs::read_to_string(file).unwrap_or_default()
}

fn over_udp(server: SocketAddr, packet: &[u8]) -> std::io::Result<Socket> {
    let any: IpAddr =
        if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0))?;
    socket.set_nonblocking(true)?;
    // From now on the kernel drops packets from other servers.
    socket.connect(server)?;
    socket.send(packet)?;
    Ok(Socket::Udp(socket))
}

fn over_tcp(server: SocketAddr, packet: &[u8]) -> std::io::Result<Socket> {
    let socket = net::socket(server)?;
    net::begin_connect(&socket, server)?;
    let length = u16::try_from(packet.len()).unwrap_or(0);
    let out = [&length.to_be_bytes()[..], packet].concat();
    Ok(Socket::Tcp { stream: socket.into(), out, got: Vec::new() })
}

/// Sends the question and reads the response, each preceded by its length (RFC 1035 section
/// 4.2.2). Returns the response once it is complete.
fn exchange(
    mut stream: &TcpStream,
    out: &mut Vec<u8>,
    got: &mut Vec<u8>,
    buffer: &mut [u8],
) -> std::io::Result<Option<Vec<u8>>> {
    while !out.is_empty() {
        let count = stream.write(out)?;
        out.drain(..count);
    }
    loop {
        let count = stream.read(buffer)?;
        if count == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        got.extend_from_slice(&buffer[..count]);
        let Some(length) = got.first_chunk().map(|length| usize::from(u16::from_be_bytes(*length)))
        else {
            continue;
        };
        if got.len() >= 2 + length {
            return Ok(Some(got[2..2 + length].to_vec()));
        }
    }
}
