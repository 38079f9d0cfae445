//! A network with one node and one DHCP server that can fail, frame by frame.
//!
//! QEMU sends each Ethernet frame of the node as a datagram to a Unix socket and receives frames from
//! another one. The network therefore needs no privileges and no network of the host, and the server
//! can misbehave on purpose. [`Server`] is the protocol without I/O: DHCP (RFC 2131, options of RFC
//! 2132), ARP (RFC 826) and ping (RFC 792) over IPv4 (RFC 791) without options.

use std::net::Ipv4Addr;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use tempfile::TempDir;

/// The server's address in its network, 10.9.0.0/24.
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 1);
const MASK: Ipv4Addr = Ipv4Addr::new(255, 255, 255, 0);

/// The last byte of the first address that is leased; each refusal adds one.
const FIRST: u8 = 50;

/// The duration of a lease in seconds: short, because clients renew after half of it.
const LEASE: u32 = 40;

/// The server's hardware address, a locally administered one.
const MAC: [u8; 6] = [2, 0x6b, 0x69, 0x6c, 0x6e, 1];
const BROADCAST: [u8; 6] = [0xff; 6];

const DISCOVER: u8 = 1;
const OFFER: u8 = 2;
const REQUEST: u8 = 3;
const ACK: u8 = 5;
const NAK: u8 = 6;

/// The magic cookie before the options.
const COOKIE: [u8; 4] = [99, 130, 83, 99];

/// The offset of the options: 236 bytes and the cookie.
const OPTIONS: usize = 240;

/// The behaviour of the DHCP server.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Mode {
    /// Gives leases.
    #[default]
    Serve,
    /// Answers nothing.
    Silent,
    /// Refuses the next request, then gives another address.
    Nak,
}

/// The state of the server and of its network.
#[derive(Debug, Default)]
pub struct Server {
    mode: Mode,
    refusals: u8,
    acked: u32,
    unanswered: u32,
    node: Option<[u8; 6]>,
    replied: Option<Ipv4Addr>,
}

/// A running network, which ends when this is dropped.
#[derive(Debug)]
pub struct Network {
    server: Arc<Mutex<Server>>,
    socket: Arc<UnixDatagram>,
    stop: Arc<AtomicBool>,
    folder: TempDir,
}

impl Server {
    /// Processes a frame from the node and returns the frame to send, if any.
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
        // A client with a lease sends its address in the header, a new client in an option.
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

    /// Makes a message to the client: to its address if it has one, else a broadcast (RFC 2131, section 4.1).
    fn reply(&self, message: &[u8], kind: u8) -> Vec<u8> {
        let mut out = vec![2, 1, 6, 0];
        // The transaction, no seconds, the client's flags.
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
        // IPv4 allows UDP without a checksum.
        udp.extend([0, 0]);
        udp.extend(out);
        ethernet(mac, [0x08, 0x00], &ipv4(17, ip, &udp))
    }

    /// Makes a ping to the node, once its hardware address is known.
    fn ping(&self, to: Ipv4Addr) -> Option<Vec<u8>> {
        let mut icmp = vec![8, 0, 0, 0, 0, 1, 0, 1];
        let sum = checksum(&icmp);
        icmp[2..4].copy_from_slice(&sum);
        Some(ethernet(self.node?, [0x08, 0x00], &ipv4(1, to, &icmp)))
    }
}

/// Answers the request for the server's hardware address.
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

/// Returns the value of a DHCP option; nothing if the option is missing or the message is cut short.
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
    // Packets of this server have a few hundred bytes.
    u16::try_from(bytes).unwrap_or(u16::MAX).to_be_bytes()
}

/// Computes the internet checksum (RFC 1071) of an even number of bytes.
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
    /// Starts a network whose server gives leases.
    pub fn start() -> Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("kiln-lan-")
            .tempdir()
            .context("cannot create a folder for sockets")?;
        let peer = folder.path().join("peer");
        let socket = UnixDatagram::bind(&peer).with_context(|| {
            format!(
                "cannot bind the socket {}; a path may have at most 107 bytes; set TMPDIR to a folder with a shorter path",
                peer.display()
            )
        })?;
        socket.set_read_timeout(Some(Duration::from_millis(200)))?;
        let network =
            Self { server: Arc::default(), socket: Arc::new(socket), stop: Arc::default(), folder };
        network.pump();
        Ok(network)
    }

    /// Returns the paths of QEMU's socket and of the socket that QEMU sends to.
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
                    // A frame may be lost, as on a real network.
                    let _ = socket.send_to(&answer, &qemu);
                }
            }
        });
    }

    /// Changes the server's behaviour and sets the counts to zero.
    pub fn set(&self, mode: Mode) {
        let mut server = lock(&self.server);
        server.mode = mode;
        (server.acked, server.unanswered) = (0, 0);
    }

    /// The number of leases given since the last change.
    pub fn acked(&self) -> u32 {
        lock(&self.server).acked
    }

    /// The number of messages that the silent server did not answer.
    pub fn unanswered(&self) -> u32 {
        lock(&self.server).unanswered
    }

    /// True if the node has answered a ping at this address; sends the next ping otherwise.
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

    /// Makes a client's message in its frame.
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

    /// Returns the kind of the answer and the address in it.
    fn ask(server: &mut Server, kind: u8, wanted: Option<Ipv4Addr>) -> Option<(u8, Ipv4Addr)> {
        let answer = server.receive(&message(kind, wanted))?;
        let dhcp = &answer[14 + 20 + 8..];
        assert_eq!((&answer[..6], &dhcp[4..8]), (&BROADCAST[..], &[1, 2, 3, 4][..]));
        Some((option(dhcp, 53)?[0], Ipv4Addr::from(<[u8; 4]>::try_from(&dhcp[16..20]).unwrap())))
    }

    #[test]
    fn a_lease_is_offered_and_then_given() {
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
    fn after_a_refusal_the_server_gives_another_address() {
        let mut server = Server { mode: Mode::Nak, ..Server::default() };
        let first = server.address();
        assert_eq!(ask(&mut server, REQUEST, Some(first)), Some((NAK, Ipv4Addr::UNSPECIFIED)));
        assert_eq!(ask(&mut server, DISCOVER, None), Some((OFFER, Ipv4Addr::new(10, 9, 0, 51))));
    }

    #[test]
    fn a_silent_server_counts_unanswered_messages() {
        let mut server = Server { mode: Mode::Silent, ..Server::default() };
        assert_eq!(ask(&mut server, DISCOVER, None), None);
        assert_eq!(server.unanswered, 1);
    }

    #[test]
    fn an_arp_request_for_the_server_is_answered_with_its_hardware_address() {
        let mut question = [&BROADCAST[..], &NODE, &[8, 6, 0, 1, 8, 0, 6, 4, 0, 1], &NODE].concat();
        question.extend([10, 9, 0, 50, 0, 0, 0, 0, 0, 0, 10, 9, 0, 1]);
        let answer = Server::default().receive(&question).unwrap();
        assert_eq!(
            (&answer[..6], &answer[22..28], &answer[32..38]),
            (&NODE[..], &MAC[..], &NODE[..])
        );
    }

    #[test]
    fn the_checksum_of_a_finished_header_is_zero() {
        let packet = ipv4(1, SERVER, &[]);
        assert_eq!(checksum(&packet), [0, 0]);
    }

    /// Checks that an answer is a whole frame from the server: its length fields agree with its length.
    fn check_frame(frame: &[u8]) -> Result<(), TestCaseError> {
        prop_assert_eq!(&frame[6..12], &MAC);
        if frame[12..14] == [0x08, 0x06] {
            prop_assert_eq!(frame.len(), 14 + 28);
            return Ok(());
        }
        let packet = &frame[14..];
        let length = |at: usize| usize::from(u16::from_be_bytes([packet[at], packet[at + 1]]));
        prop_assert_eq!(length(2), packet.len());
        prop_assert_eq!(length(24), packet.len() - 20);
        prop_assert_eq!(checksum(&packet[..20]), [0, 0]);
        let kind = option(&packet[28..], 53);
        prop_assert!(matches!(kind, Some([OFFER | ACK | NAK])));
        Ok(())
    }

    proptest! {
        #[test]
        fn random_bytes_give_no_answer_or_a_whole_frame(frame: Vec<u8>) {
            if let Some(answer) = Server::default().receive(&frame) {
                check_frame(&answer)?;
            }
        }

        #[test]
        fn a_damaged_message_gives_no_answer_or_a_whole_frame(tail: Vec<u8>, cut in 0_usize..400) {
            let mut frame = message(REQUEST, None);
            frame.truncate(cut);
            frame.extend(tail);
            let mut server = Server::default();
            let answer = server.receive(&frame);
            // A lease is only ever given by an answer.
            prop_assert!(server.acked == 0 || answer.is_some());
            if let Some(answer) = answer {
                check_frame(&answer)?;
            }
        }

        #[test]
        fn an_option_is_found_after_any_other_options(others: Vec<(u8, Vec<u8>)>, value: [u8; 4]) {
            let mut message = vec![0; OPTIONS - 4];
            message.extend(COOKIE);
            for (code, other) in others {
                let other = &other[..other.len().min(255)];
                // Code 0 is padding and 255 the end.
                if !matches!(code, 0 | 50 | 255) {
                    message.extend([code, u8::try_from(other.len()).unwrap()]);
                    message.extend(other);
                }
            }
            message.extend([50, 4]);
            message.extend(value);
            prop_assert_eq!(option(&message, 50), Some(&value[..]));
        }
    }
}
