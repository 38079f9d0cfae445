//! Questions and answers on the wire (RFC 1035 section 4).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const HEADER: usize = 12;
const INTERNET: u16 = 1;
const CNAME: u16 = 5;
const OPT: u16 = 41;
const RESPONSE: u8 = 0x80;
const TRUNCATED: u8 = 0x02;
const OPCODE: u8 = 0x78;
const RECURSION_DESIRED: u8 = 1;
/// A pointer's two highest bits are set (section 4.1.4).
const POINTER: u8 = 0xc0;
/// Jumps that a name may take; honest ones take a few.
const MOST_JUMPS: usize = 16;
/// Aliases that lead to an address.
const MOST_ALIASES: usize = 8;
/// Addresses that are taken of one answer.
const MOST_ADDRESSES: usize = 16;
/// The largest answer over UDP that fits every path (DNS flag day 2020).
const UDP_SIZE: u16 = 1232;

/// Which addresses are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// A records.
    V4 = 1,
    /// AAAA records.
    V6 = 28,
}

/// What a server says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Addresses, and for how many seconds they hold.
    Addresses(Vec<IpAddr>, u32),
    /// There is no such name, or no address of this family.
    Nothing,
    /// The answer did not fit: ask again over TCP.
    Truncated,
    /// The server cannot say.
    Failure,
}

/// The question for a name in normal form, as a whole message.
#[must_use]
pub fn question(id: u16, name: &str, family: Family) -> Vec<u8> {
    let mut packet = Vec::with_capacity(HEADER + name.len() + 17);
    packet.extend(id.to_be_bytes());
    packet.extend([RECURSION_DESIRED, 0, 0, 1, 0, 0, 0, 0, 0, 1]);
    for label in name.split('.') {
        // A normalised name's labels have 1 to 63 bytes.
        packet.push(u8::try_from(label.len()).unwrap_or(0) & 0x3f);
        packet.extend(label.bytes().take(63));
    }
    packet.push(0);
    packet.extend((family as u16).to_be_bytes());
    packet.extend(INTERNET.to_be_bytes());
    // EDNS(0) without options (RFC 6891).
    packet.push(0);
    packet.extend(OPT.to_be_bytes());
    packet.extend(UDP_SIZE.to_be_bytes());
    packet.extend([0; 6]);
    packet
}

/// What a message says to our question; `None` if it is no answer to it.
#[must_use]
pub fn answer(id: u16, name: &str, family: Family, packet: &[u8]) -> Option<Answer> {
    let header: &[u8; HEADER] = packet.first_chunk()?;
    let number = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
    if number(0) != id || header[2] & (RESPONSE | OPCODE) != RESPONSE {
        return None;
    }
    let failure = header[3] & 0x0f;
    if number(4) != 1 {
        // Some servers refuse without repeating the question.
        return (number(4) == 0 && failure != 0).then_some(Answer::Failure);
    }
    let (asked, at) = read_name(packet, HEADER)?;
    let kind = packet.get(at..at + 4)?;
    if asked != name
        || kind[..2] != (family as u16).to_be_bytes()
        || kind[2..] != INTERNET.to_be_bytes()
    {
        return None;
    }
    match failure {
        _ if header[2] & TRUNCATED != 0 => Some(Answer::Truncated),
        0 => Some(addresses(packet, at + 4, number(6), name, family)),
        3 => Some(Answer::Nothing),
        _ => Some(Answer::Failure),
    }
}

struct Record {
    owner: String,
    kind: u16,
    ttl: u32,
    data: std::ops::Range<usize>,
}

/// Addresses of the name, or of what its aliases lead to; records about others are left alone.
fn addresses(packet: &[u8], mut at: usize, count: u16, name: &str, family: Family) -> Answer {
    let mut records = Vec::new();
    for _ in 0..count {
        let Some((record, after)) = read_record(packet, at) else { return Answer::Failure };
        at = after;
        records.extend(record);
    }
    let (mut owner, mut ttl) = (name.to_owned(), u32::MAX);
    for _ in 0..=MOST_ALIASES {
        let ours = records.iter().filter(|r| r.owner == owner);
        let of_family = ours.filter(|r| r.kind == family as u16);
        let found: Vec<IpAddr> = of_family
            .inspect(|r| ttl = ttl.min(r.ttl))
            .filter_map(|r| address(&packet[r.data.clone()]))
            .take(MOST_ADDRESSES)
            .collect();
        if !found.is_empty() {
            return Answer::Addresses(found, ttl);
        }
        let alias = records.iter().find(|r| r.owner == owner && r.kind == CNAME);
        let Some((alias, target)) =
            alias.and_then(|r| Some((r, read_name(packet, r.data.start)?.0)))
        else {
            return Answer::Nothing;
        };
        ttl = ttl.min(alias.ttl);
        owner = target;
    }
    Answer::Failure
}

/// A record and the offset behind it; nothing for one of another class.
fn read_record(packet: &[u8], at: usize) -> Option<(Option<Record>, usize)> {
    let (owner, at) = read_name(packet, at)?;
    let fixed: &[u8; 10] = packet.get(at..)?.first_chunk()?;
    let number = |at: usize| u16::from_be_bytes([fixed[at], fixed[at + 1]]);
    let start = at + 10;
    let end = start + usize::from(number(8));
    packet.get(start..end)?;
    // A TTL with its highest bit set counts as 0 (RFC 2181 section 8).
    let ttl = u32::from_be_bytes([fixed[4], fixed[5], fixed[6], fixed[7]]);
    let ttl = if ttl > u32::MAX >> 1 { 0 } else { ttl };
    let record = Record { owner, kind: number(0), ttl, data: start..end };
    Some(((number(2) == INTERNET).then_some(record), end))
}

fn address(data: &[u8]) -> Option<IpAddr> {
    if let Ok(four) = <[u8; 4]>::try_from(data) {
        return Some(Ipv4Addr::from(four).into());
    }
    <[u8; 16]>::try_from(data).ok().map(|sixteen| Ipv6Addr::from(sixteen).into())
}

/// A name in lower case, and the offset behind it.
fn read_name(packet: &[u8], start: usize) -> Option<(String, usize)> {
    let (mut at, mut end, mut jumps) = (start, None, 0);
    let mut name = String::new();
    loop {
        let length = *packet.get(at)?;
        match length {
            0 => return Some((name, end.unwrap_or(at + 1))),
            POINTER.. => {
                let low = *packet.get(at + 1)?;
                end = end.or(Some(at + 2));
                let target = usize::from(length & !POINTER) << 8 | usize::from(low);
                jumps += 1;
                if target >= at || jumps > MOST_JUMPS {
                    return None;
                }
                at = target;
            }
            1..=63 => {
                let label = packet.get(at + 1..at + 1 + usize::from(length))?;
                if !name.is_empty() {
                    name.push('.');
                }
                name.extend(label.iter().map(|byte| char::from(byte.to_ascii_lowercase())));
                at += 1 + usize::from(length);
                if name.len() > 512 {
                    return None;
                }
            }
            _ => return None,
        }
    }
}
