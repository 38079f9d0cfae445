//! IPv4 and UDP headers around a DHCP message, and the ARP announcement of a new address.
//!
//! DHCP needs a socket below the IP stack: without an address the kernel neither sends from 0.0.0.0 on
//! a chosen interface nor delivers the reply. The kernel adds and removes the link-layer headers
//! (`SOCK_DGRAM` in packet(7)).
//!
//! RFC 791, RFC 768, RFC 1071 (checksum), RFC 5227 (announcement).

use std::fmt;
use std::net::{Ipv4Addr, SocketAddrV4};

const IP_HEADER: usize = 20;
const UDP_HEADER: usize = 8;
const UDP: u8 = 17;
const TIME_TO_LIVE: u8 = 64;
/// Mask of "more fragments" and the fragment's offset; both are zero in a whole datagram.
const FRAGMENT: u16 = 0x3fff;

/// A UDP datagram over IPv4.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Datagram<'a> {
    /// Source address and port.
    pub source: SocketAddrV4,
    /// Destination address and port.
    pub destination: SocketAddrV4,
    /// The UDP payload.
    pub payload: &'a [u8],
}

/// The reason why bytes are not a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameError {
    /// Shorter than the headers, or than a length in a header.
    Truncated,
    /// Not IPv4, not UDP, or a fragment.
    NotUdp,
    /// A checksum is wrong.
    Checksum,
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Truncated => "truncated packet",
            Self::NotUdp => "not a whole UDP datagram over IPv4",
            Self::Checksum => "wrong checksum",
        })
    }
}

impl std::error::Error for FrameError {}

impl Datagram<'_> {
    /// Builds the packet, beginning with its IP header; `None` if the payload is too long.
    #[must_use]
    pub fn build(&self) -> Option<Vec<u8>> {
        let udp_length = u16::try_from(UDP_HEADER + self.payload.len()).ok()?;
        let length = udp_length.checked_add(20)?;
        let mut packet = Vec::with_capacity(length.into());
        packet.extend([0x45, 0xc0]); // version 4, 5 words; precedence "internetwork control"
        packet.extend(length.to_be_bytes());
        packet.extend([0; 4]); // identification, no fragment
        packet.extend([TIME_TO_LIVE, UDP, 0, 0]);
        packet.extend(self.source.ip().octets());
        packet.extend(self.destination.ip().octets());
        let header = !fold(sum(&packet));
        packet[10..12].copy_from_slice(&header.to_be_bytes());

        packet.extend(self.source.port().to_be_bytes());
        packet.extend(self.destination.port().to_be_bytes());
        packet.extend(udp_length.to_be_bytes());
        packet.extend([0, 0]);
        packet.extend(self.payload);
        let pseudo = pseudo_header(*self.source.ip(), *self.destination.ip(), udp_length);
        let udp = match !fold(pseudo + sum(&packet[IP_HEADER..])) {
            0 => 0xffff, // 0 would mean "no checksum"
            other => other,
        };
        packet[26..28].copy_from_slice(&udp.to_be_bytes());
        Some(packet)
    }

    /// Parses a packet that begins with an IP header; bytes after the datagram (Ethernet padding) are
    /// ignored.
    pub fn parse(packet: &[u8]) -> Result<Datagram<'_>, FrameError> {
        let first = *packet.first().ok_or(FrameError::Truncated)?;
        if first >> 4 != 4 {
            return Err(FrameError::NotUdp);
        }
        let header_length = usize::from(first & 0xf) * 4;
        let total = usize::from(half(packet, 2)?);
        if header_length < IP_HEADER {
            return Err(FrameError::Truncated);
        }
        let packet = packet.get(..total).ok_or(FrameError::Truncated)?;
        let (header, udp) = packet.split_at_checked(header_length).ok_or(FrameError::Truncated)?;
        if header[9] != UDP || half(header, 6)? & FRAGMENT != 0 {
            return Err(FrameError::NotUdp);
        }
        if fold(sum(header)) != 0xffff {
            return Err(FrameError::Checksum);
        }
        parse_udp(udp, address(header, 12), address(header, 16))
    }
}

fn parse_udp(
    udp: &[u8],
    source: Ipv4Addr,
    destination: Ipv4Addr,
) -> Result<Datagram<'_>, FrameError> {
    let length = half(udp, 4)?;
    let udp = udp.get(..length.into()).ok_or(FrameError::Truncated)?;
    let payload = udp.get(UDP_HEADER..).ok_or(FrameError::Truncated)?;
    if !checksum_holds(udp, pseudo_header(source, destination, length)) {
        return Err(FrameError::Checksum);
    }
    Ok(Datagram {
        source: SocketAddrV4::new(source, half(udp, 0)?),
        destination: SocketAddrV4::new(destination, half(udp, 2)?),
        payload,
    })
}

/// True if the checksum is right, absent, or left unfinished for a network card.
///
/// A server on a virtual machine's host sends through a virtual card: the kernel writes only the sum
/// of the pseudo header and leaves the rest to the card (`CHECKSUM_PARTIAL` in the kernel's
/// `include/linux/skbuff.h`). Such a packet has never been on a wire.
fn checksum_holds(udp: &[u8], pseudo: u32) -> bool {
    let stored = half(udp, 6).unwrap_or(0);
    stored == 0 || stored == fold(pseudo) || fold(pseudo + sum(udp)) == 0xffff
}

/// Builds the ARP announcement of an address (RFC 5227, 3), which makes neighbours update their cached
/// entry.
#[must_use]
pub fn announcement(hardware: [u8; 6], address: Ipv4Addr) -> [u8; 28] {
    let mut packet = [0; 28];
    // Ethernet, IPv4, address lengths 6 and 4, request.
    packet[..8].copy_from_slice(&[0, 1, 8, 0, 6, 4, 0, 1]);
    packet[8..14].copy_from_slice(&hardware);
    packet[14..18].copy_from_slice(&address.octets());
    packet[24..28].copy_from_slice(&address.octets());
    packet
}

fn half(bytes: &[u8], at: usize) -> Result<u16, FrameError> {
    let two = bytes.get(at..at + 2).ok_or(FrameError::Truncated)?;
    Ok(u16::from_be_bytes([two[0], two[1]]))
}

/// Reads an address; the caller has checked that the header is complete.
fn address(header: &[u8], at: usize) -> Ipv4Addr {
    Ipv4Addr::new(header[at], header[at + 1], header[at + 2], header[at + 3])
}

fn pseudo_header(source: Ipv4Addr, destination: Ipv4Addr, udp_length: u16) -> u32 {
    sum(&source.octets()) + sum(&destination.octets()) + u32::from(UDP) + u32::from(udp_length)
}

/// Returns the sum of 16-bit words. No packet is long enough to overflow 32 bits.
fn sum(bytes: &[u8]) -> u32 {
    let word =
        |pair: &[u8]| u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
    bytes.chunks(2).map(word).sum()
}

fn fold(sum: u32) -> u16 {
    let once = (sum >> 16) + (sum & 0xffff);
    let [_, _, high, low] = ((once >> 16) + (once & 0xffff)).to_be_bytes();
    u16::from_be_bytes([high, low])
}

#[cfg(test)]
mod tests {
    use super::{Datagram, FrameError, fold, half, pseudo_header};
    use proptest::prelude::*;
    use std::net::{Ipv4Addr, SocketAddrV4};

    fn datagram(payload: &[u8]) -> Datagram<'_> {
        Datagram {
            source: SocketAddrV4::new(Ipv4Addr::new(10, 0, 2, 2), 67),
            destination: SocketAddrV4::new(Ipv4Addr::BROADCAST, 68),
            payload,
        }
    }

    fn check(change: impl FnOnce(&mut Vec<u8>), expected: Result<&[u8], FrameError>) {
        let mut packet = datagram(b"abc").build().unwrap();
        change(&mut packet);
        assert_eq!(Datagram::parse(&packet).map(|datagram| datagram.payload), expected);
    }

    #[test]
    fn only_complete_and_correct_datagrams_are_read() {
        check(|_| (), Ok(b"abc"));
        check(|packet| packet.extend([0; 30]), Ok(b"abc")); // Ethernet padding
        check(|packet| packet.truncate(30), Err(FrameError::Truncated));
        check(Vec::clear, Err(FrameError::Truncated));
        check(|packet| packet[0] = 0x65, Err(FrameError::NotUdp));
        check(|packet| packet[0] = 0x44, Err(FrameError::Truncated));
        check(|packet| packet[9] = 6, Err(FrameError::NotUdp));
        check(|packet| packet[6] = 0x20, Err(FrameError::NotUdp)); // a fragment
        check(|packet| packet[8] = 1, Err(FrameError::Checksum));
        check(|packet| packet[30] ^= 1, Err(FrameError::Checksum));
        check(|packet| packet[25] = 7, Err(FrameError::Truncated)); // shorter than its own header
    }

    #[test]
    fn an_unfinished_or_absent_checksum_is_accepted() {
        check(|packet| packet[26..28].fill(0), Ok(b"abc"));
        let partial = |packet: &mut Vec<u8>| {
            let length = half(packet, 24).unwrap();
            let pseudo = pseudo_header(Ipv4Addr::new(10, 0, 2, 2), Ipv4Addr::BROADCAST, length);
            packet[26..28].copy_from_slice(&fold(pseudo).to_be_bytes());
        };
        check(partial, Ok(b"abc"));
    }

    proptest! {
        #[test]
        fn a_built_packet_is_read_back(payload: Vec<u8>) {
            let built = datagram(&payload).build().unwrap();
            prop_assert_eq!(Datagram::parse(&built), Ok(datagram(&payload)));
        }

        #[test]
        fn a_payload_lies_within_the_bytes_and_is_built_again(bytes: Vec<u8>) {
            if let Ok(read) = Datagram::parse(&bytes) {
                prop_assert!(read.payload.len() + 28 <= bytes.len());
                let built = read.build().unwrap();
                prop_assert_eq!(Datagram::parse(&built), Ok(read));
            }
        }

        #[test]
        fn a_changed_or_cut_packet_is_refused_or_has_the_same_payload(
            at in 0_usize..31,
            value: u8,
            length in 0_usize..32,
        ) {
            let mut packet = datagram(b"abc").build().unwrap();
            packet[at] = value;
            let parsed = Datagram::parse(&packet[..length.min(packet.len())]);
            // Checksums detect every change of a single byte, except in the UDP checksum itself, where
            // zero and the unfinished sum are allowed.
            prop_assert!(parsed.is_err() || parsed.unwrap().payload == b"abc");
        }
    }
}
