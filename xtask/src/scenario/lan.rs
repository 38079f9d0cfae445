//! A network with one node and one DHCP server that can fail, frame by frame.
//!
//! QEMU sends each Ethernet frame of the node as a datagram to a unix socket and takes frames from
//! another. So no root and no network of the host is needed, and the server can do what no
//! well-behaved one would. [`Server`] is the protocol without any I/O: DHCP (RFC 2131, options of RFC
//! 2132), ARP (RFC 826) and ping (RFC 792), IPv4 (RFC 791) without options.

use std::net::Ipv4Addr;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use tempfile::TempDir;

/// The server and its network, 10.9.0.0/24.
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 1);
const MASK: Ipv4Addr = Ipv4Addr::new(255, 255, 255, 0);

/// Last byte of the first address that is given out; each refusal moves on by one.
const FIRST: u8 = 50;

/// Short, so that renewal is seen soon: clients renew after half of it.
const LEASE: u32 = 40;

/// Locally administered.
const MAC: [u8; 6] = [2, 0x6b, 0x69, 0x6c, 0x6e, 1];
const BROADCAST: [u8; 6] = [0xff; 6];

const DISCOVER: u8 = 1;
const OFFER: u8 = 2;
const REQUEST: u8 = 3;
const ACK: u8 = 5;
const NAK: u8 = 6;

/// What precedes the options: 236 bytes and the magic cookie.
const COOKIE: [u8; 4] = [99, 130, 83, 99];
const OPTIONS: usize = 240;

/// What the DHCP server does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Mode {
    /// It gives leases.
    #[default]
    Serve,
    /// It is not there.
    Silent,
    /// It refuses the next request, then gives another address.
    Nak,
}

/// The server's side of the network.
#[derive(Debug, Default)]
pub struct Server {
    mode: Mode,
    refusals: u8,
    acked: u32,
    unanswered: u32,
    node: Option<[u8; 6]>,
    replied: Option<Ipv4Addr>,
}

/// A running network; it ends when this is dropped.
#[derive(Debug)]
pub struct Network {
    server: Arc<Mutex<Server>>,
    socket: Arc<UnixDatagram>,
    stop: Arc<AtomicBool>,
    folder: TempDir,
}

impl Server {
    /// Takes a frame of the node, gives the frames to send.
    pub fn receive(&mut self, frame: &[u8]) -> Option<Vec<u8>> {
        let source: [u8; 6] = frame.get(6..12)?.try_into().ok()?;
        let (kind, body) = frame.get(12..)?.split_at_checked(2)?;
        match kind {
            [0x08, 0x06] => arp(body, source),
            [0x08, 0x00] => self.ip(body, source),
            _ => None,
        }
    }

    fn ip(&mut self, packet: &[u8], source: [u8; 6]) -> Option<Vec<u8>> {
        let header = usize::from(packet.first()? & 0x0f) * 4;
        let payload = packet.get(header..)?;
        let from: [u8; 4] = packet.get(12..16)?.try_into().ok()?;
        match packet.get(9)? {
            // ICMP: an echo reply.
            1 if payload.first() == Some(&0) => self.replied = Some(Ipv4Addr::from(from)),
            // UDP to the DHCP server.
            17 if payload.get(2..4) == Some(&[0, 67]) => {
                return self.dhcp(payload.get(8..)?, source);
            }
            _ => {}
        }
        None
    }

    fn dhcp(&mut self, message: &[u8], source: [u8; 6]) -> Option<Vec<u8>> {
        let kind = *option(message, 53)?.first()?;
        self.node = Some(source);
        if self.mode == Mode::Silent {
            self.unanswered += 1;
            return None;
        }
        match kind {
            DISCOVER => Some(self.reply(message, OFFER)),
            REQUEST => Some(self.request(message)),
            _ => None,
        }
    }

    fn request(&mut self, message: &[u8]) -> Vec<u8> {
        if self.mode == Mode::Nak {
            self.mode = Mode::Serve;
            self.refusals += 1;
            return self.reply(message, NAK);
        }
        // A known client names its address in its header, a new one in an option.
        let current = Ipv4Addr::from(<[u8; 4]>::try_from(&message[12..16]).unwrap_or_default());
        let wanted =
            option(message, 50).and_then(|ip| Some(Ipv4Addr::from(<[u8; 4]>::try_from(ip).ok()?)));
        if wanted.unwrap_or(current) != self.address() {
            return self.reply(message, NAK);
        }
        self.acked += 1;
        self.reply(message, ACK)
    }

    fn address(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, 9, 0, FIRST.wrapping_add(self.refusals))
    }

    /// A message to the client: to its address when it has one, else to all (RFC 2131, section 4.1).
    fn reply(&self, message: &[u8], kind: u8) -> Vec<u8> {
        let mut out = vec![2, 1, 6, 0];
        // Transaction; no seconds; the client's flags.
        out.extend(&message[4..8]);
        out.extend([0, 0, message[10], message[11]]);
        let given = if kind == NAK { Ipv4Addr::UNSPECIFIED } else { self.address() };
        let current = if kind == ACK { &message[12..16] } else { &[0; 4] };
        out.extend(current);
        out.extend(given.octets());
        out.extend([0; 8]);
        out.extend(&message[28..44]);
        out.resize(OPTIONS - 4, 0);
        out.extend(COOKIE);
        out.extend([53, 1, kind, 54, 4]);
        out.extend(SERVER.octets());
        if kind != NAK {
            out.extend([51, 4]);
            out.extend(LEASE.to_be_bytes());
            for (code, ip) in [(1, MASK), (3, SERVER), (6, SERVER)] {
                out.extend([code, 4]);
                out.extend(ip.octets());
            }
        }
        out.push(255);
        let known = kind == ACK && current != [0; 4];
        let (mac, ip) = if known {
            (self.node.unwrap_or(BROADCAST), self.address())
        } else {
            (BROADCAST, Ipv4Addr::BROADCAST)
        };
        let mut udp = vec![0, 67, 0, 68];
        udp.extend(length(8 + out.len()));
        // No checksum, which IPv4 allows.
        udp.extend([0, 0]);
        udp.extend(out);
        ethernet(mac, [0x08, 0x00], &ipv4(17, ip, &udp))
    }

    /// A ping to the node, once it is known.
    fn ping(&self, to: Ipv4Addr) -> Option<Vec<u8>> {
        let mut icmp = vec![8, 0, 0, 0, 0, 1, 0, 1];
        let sum = checksum(&icmp);
        icmp[2..4].copy_from_slice(&sum);
        Some(ethernet(self.node?, [0x08, 0x00], &ipv4(1, to, &icmp)))
    }
}

/// Answers "who has 10.9.0.1".
fn arp(body: &[u8], source: [u8; 6]) -> Option<Vec<u8>> {
    if body.get(6..8)? != [0, 1] || body.get(24..28)? != SERVER.octets() {
        return None;
    }
    let mut out = vec![0, 1, 8, 0, 6, 4, 0, 2];
    out.extend(MAC);
    out.extend(SERVER.octets());
    out.extend(&body[8..18]);
    Some(ethernet(source, [0x08, 0x06], &out))
}

/// A DHCP option's value; `None` as well for a message that is cut short.
fn option(message: &[u8], wanted: u8) -> Option<&[u8]> {
    let (head, mut rest) = message.split_at_checked(OPTIONS)?;
    if head[OPTIONS - 4..] != COOKIE {
        return None;
    }
    loop {
        match rest {
            [0, tail @ ..] => rest = tail,
            [255, ..] | [] | [_] => return None,
            [code, length, tail @ ..] => {
                let (value, tail) = tail.split_at_checked(usize::from(*length))?;
                if *code == wanted {
                    return Some(value);
                }
                rest = tail;
            }
        }
    }
}

fn ethernet(to: [u8; 6], kind: [u8; 2], body: &[u8]) -> Vec<u8> {
    [&to[..], &MAC, &kind, body].concat()
}

fn ipv4(protocol: u8, to: Ipv4Addr, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![0x45, 0];
    out.extend(length(20 + payload.len()));
    out.extend([0, 0, 0, 0, 64, protocol, 0, 0]);
    out.extend(SERVER.octets());
    out.extend(to.octets());
    let sum = checksum(&out);
    out[10..12].copy_from_slice(&sum);
    out.extend(payload);
    out
}

fn length(bytes: usize) -> [u8; 2] {
    // Packets made here have some hundred bytes.
    u16::try_from(bytes).unwrap_or(u16::MAX).to_be_bytes()
}

/// The internet checksum (RFC 1071) of an even number of bytes.
fn checksum(bytes: &[u8]) -> [u8; 2] {
    let mut sum: u32 =
        bytes.chunks_exact(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    let [_, _, high, low] = (!sum).to_be_bytes();
    [high, low]
}

impl Network {
    /// Starts it, with a server that gives leases.
    pub fn start() -> Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("kiln-lan-")
            .tempdir()
            .context("cannot make a folder for sockets")?;
        let peer = folder.path().join("peer");
        let socket = UnixDatagram::bind(&peer).with_context(|| {
            format!(
                "cannot make the socket {} (a path may have 107 bytes; TMPDIR chooses the folder)",
                peer.display()
            )
        })?;
        socket.set_read_timeout(Some(Duration::from_millis(200)))?;
        let network =
            Self { server: Arc::default(), socket: Arc::new(socket), stop: Arc::default(), folder };
        network.pump();
        Ok(network)
    }

    /// Where QEMU's socket is to be, and where it sends to.
    pub fn sockets(&self) -> (PathBuf, PathBuf) {
        (self.folder.path().join("qemu"), self.folder.path().join("peer"))
    }

    fn pump(&self) {
        let (server, socket, stop) =
            (Arc::clone(&self.server), Arc::clone(&self.socket), Arc::clone(&self.stop));
        let (qemu, _) = self.sockets();
        thread::spawn(move || {
            let mut frame = vec![0; 65_536];
            while !stop.load(Ordering::Relaxed) {
                let Ok(length) = socket.recv(&mut frame) else { continue };
                let answer = lock(&server).receive(&frame[..length]);
                if let Some(answer) = answer {
                    // Lost like any frame on a real network.
                    let _ = socket.send_to(&answer, &qemu);
                }
            }
        });
    }

    /// Changes what the server does; counting starts anew.
    pub fn set(&self, mode: Mode) {
        let mut server = lock(&self.server);
        server.mode = mode;
        (server.acked, server.unanswered) = (0, 0);
    }

    /// Leases given since the last change.
    pub fn acked(&self) -> u32 {
        lock(&self.server).acked
    }

    /// Messages that the silent server did not answer.
    pub fn unanswered(&self) -> u32 {
        lock(&self.server).unanswered
    }

    /// Whether the node has answered a ping at this address; sends the next one.
    pub fn answers(&self, at: Ipv4Addr) -> bool {
        let mut server = lock(&self.server);
        if server.replied.take() == Some(at) {
            return true;
        }
        if let Some(ping) = server.ping(at) {
            let (qemu, _) = self.sockets();
            let _ = self.socket.send_to(&ping, qemu);
        }
        false
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn lock(server: &Mutex<Server>) -> MutexGuard<'_, Server> {
    server.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NODE: [u8; 6] = [2, 0, 0, 0, 0, 9];

    /// A client's message in its frame.
    fn message(kind: u8, wanted: Option<Ipv4Addr>) -> Vec<u8> {
        let mut out = vec![1, 1, 6, 0, 1, 2, 3, 4];
        out.resize(28, 0);
        out.extend(NODE);
        out.resize(OPTIONS - 4, 0);
        out.extend(COOKIE);
        out.extend([53, 1, kind]);
        if let Some(ip) = wanted {
            out.extend([50, 4]);
            out.extend(ip.octets());
        }
        out.push(255);
        let mut udp = vec![0, 68, 0, 67, 0, 0, 0, 0];
        udp.extend(out);
        let mut frame = ethernet(BROADCAST, [0x08, 0x00], &ipv4(17, Ipv4Addr::BROADCAST, &udp));
        frame[6..12].copy_from_slice(&NODE);
        frame
    }

    /// Kind of the answer, and the address in it.
    fn ask(server: &mut Server, kind: u8, wanted: Option<Ipv4Addr>) -> Option<(u8, Ipv4Addr)> {
        let answer = server.receive(&message(kind, wanted))?;
        let dhcp = &answer[14 + 20 + 8..];
        assert_eq!((&answer[..6], &dhcp[4..8]), (&BROADCAST[..], &[1, 2, 3, 4][..]));
        Some((option(dhcp, 53)?[0], Ipv4Addr::from(<[u8; 4]>::try_from(&dhcp[16..20]).unwrap())))
    }

    #[test]
    fn a_lease_is_offered_and_given() {
        let mut server = Server::default();
        let first = Ipv4Addr::new(10, 9, 0, 50);
        assert_eq!(ask(&mut server, DISCOVER, None), Some((OFFER, first)));
        assert_eq!(ask(&mut server, REQUEST, Some(first)), Some((ACK, first)));
        assert_eq!((server.acked, server.node), (1, Some(NODE)));
        assert_eq!(
            ask(&mut server, REQUEST, Some(Ipv4Addr::LOCALHOST)),
            Some((NAK, Ipv4Addr::UNSPECIFIED))
        );
    }

    #[test]
    fn after_a_refusal_another_address_is_given() {
        let mut server = Server { mode: Mode::Nak, ..Server::default() };
        let first = server.address();
        assert_eq!(ask(&mut server, REQUEST, Some(first)), Some((NAK, Ipv4Addr::UNSPECIFIED)));
        assert_eq!(ask(&mut server, DISCOVER, None), Some((OFFER, Ipv4Addr::new(10, 9, 0, 51))));
    }

    #[test]
    fn a_silent_server_counts_what_it_does_not_answer() {
        let mut server = Server { mode: Mode::Silent, ..Server::default() };
        assert_eq!(ask(&mut server, DISCOVER, None), None);
        assert_eq!(server.unanswered, 1);
    }

    #[test]
    fn who_asks_for_the_server_gets_its_address() {
        let mut question = [&BROADCAST[..], &NODE, &[8, 6, 0, 1, 8, 0, 6, 4, 0, 1], &NODE].concat();
        question.extend([10, 9, 0, 50, 0, 0, 0, 0, 0, 0, 10, 9, 0, 1]);
        let answer = Server::default().receive(&question).unwrap();
        assert_eq!(
            (&answer[..6], &answer[22..28], &answer[32..38]),
            (&NODE[..], &MAC[..], &NODE[..])
        );
    }

    #[test]
    fn a_checksum_over_itself_is_zero() {
        let packet = ipv4(1, SERVER, &[]);
        assert_eq!(checksum(&packet), [0, 0]);
    }

    proptest! {
        #[test]
        fn any_frame_is_taken_without_a_panic(frame: Vec<u8>) {
            Server::default().receive(&frame);
        }

        #[test]
        fn any_message_is_taken_without_a_panic(tail: Vec<u8>, cut in 0_usize..400) {
            let mut frame = message(REQUEST, None);
            frame.truncate(cut);
            frame.extend(tail);
            Server::default().receive(&frame);
        }
    }
}
