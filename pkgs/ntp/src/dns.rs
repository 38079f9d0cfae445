//! Names to addresses, by a question to a name server over UDP (RFC 1035), and `resolv.conf`.
//!
//! The C library's resolver loads shared objects at run time, which a static program cannot.
//! Names are taken as they are written: search domains are for people at a keyboard.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// More addresses of one name give no better time.
const MOST_ADDRESSES: usize = 4;
const MOST_NAME_SERVERS: usize = 3;
const HEADER: usize = 12;
const RECURSION_DESIRED: u8 = 1;
const RESPONSE: u8 = 0x80;
const INTERNET: u16 = 1;
/// A compressed name's pointer has its two highest bits set.
const POINTER: u8 = 0xc0;

/// Which addresses are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// A records.
    V4,
    /// AAAA records.
    V6,
}

impl Family {
    const fn code(self) -> u16 {
        match self {
            Self::V4 => 1,
            Self::V6 => 28,
        }
    }
}

/// The question for a name; `None` for what is no name.
#[must_use]
pub fn question(id: u16, name: &str, family: Family) -> Option<Vec<u8>> {
    let name = name.strip_suffix('.').unwrap_or(name);
    if name.len() > 253 {
        return None;
    }
    let mut packet = Vec::with_capacity(HEADER + name.len() + 6);
    packet.extend(id.to_be_bytes());
    packet.extend([RECURSION_DESIRED, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.split('.') {
        let length = u8::try_from(label.len()).ok().filter(|length| (1..=63).contains(length))?;
        packet.push(length);
        packet.extend(label.bytes());
    }
    packet.push(0);
    packet.extend(family.code().to_be_bytes());
    packet.extend(INTERNET.to_be_bytes());
    Some(packet)
}

/// The addresses in an answer to `question`; `None` if it is no answer to it.
///
/// Aliases (CNAME) need no following: the server puts what they lead to into the same answer.
/// An answer that was cut (TC) is used as far as it goes.
#[must_use]
pub fn answer(question: &[u8], packet: &[u8]) -> Option<Vec<IpAddr>> {
    let header: &[u8; HEADER] = packet.first_chunk()?;
    let asked = question.get(HEADER..)?;
    let is_answer = header[2] & RESPONSE != 0 && header[..2] == question[..2];
    let mut rest = packet.get(HEADER..)?.strip_prefix(asked).filter(|_| is_answer)?;
    let family = asked.get(asked.len().checked_sub(4)?..)?.first_chunk::<2>()?;
    let mut addresses = Vec::new();
    for _ in 0..u16::from_be_bytes([header[6], header[7]]) {
        let Some((kind, data, after)) = record(rest) else { break };
        if kind == u16::from_be_bytes(*family) {
            addresses.extend(address(data));
        }
        rest = after;
    }
    addresses.truncate(MOST_ADDRESSES);
    Some(addresses)
}

fn address(data: &[u8]) -> Option<IpAddr> {
    if let Ok(four) = <[u8; 4]>::try_from(data) {
        return Some(Ipv4Addr::from(four).into());
    }
    <[u8; 16]>::try_from(data).ok().map(|sixteen| Ipv6Addr::from(sixteen).into())
}

/// A record's type and data, and what follows it.
fn record(packet: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let (fixed, rest) = skip_name(packet)?.split_first_chunk::<10>()?;
    let length = u16::from_be_bytes([fixed[8], fixed[9]]);
    let (data, rest) = rest.split_at_checked(length.into())?;
    Some((u16::from_be_bytes([fixed[0], fixed[1]]), data, rest))
}

fn skip_name(mut packet: &[u8]) -> Option<&[u8]> {
    loop {
        let (&length, rest) = packet.split_first()?;
        match length {
            0 => return Some(rest),
            POINTER.. => return rest.get(1..),
            _ => packet = rest.get(length.into()..)?,
        }
    }
}

/// The name servers in the text of a `resolv.conf`, in its order.
#[must_use]
pub fn name_servers(resolv_conf: &str) -> Vec<IpAddr> {
    let server = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        (words.next()? == "nameserver").then(|| words.next()?.parse().ok())?
    };
    resolv_conf.lines().filter_map(server).take(MOST_NAME_SERVERS).collect()
}

#[cfg(test)]
mod tests {
    use super::{Family, answer, name_servers, question};
    use proptest::prelude::*;
    use std::net::IpAddr;

    /// An answer with these records, each a type and its data, named by a pointer to the question.
    fn reply(question: &[u8], records: &[(u16, &[u8])]) -> Vec<u8> {
        let mut packet = question.to_vec();
        packet[2] |= 0x80;
        packet[7] = u8::try_from(records.len()).unwrap();
        for (kind, data) in records {
            packet.extend([0xc0, 12]);
            packet.extend(kind.to_be_bytes());
            packet.extend([0, 1, 0, 0, 0, 60]);
            packet.extend(u16::try_from(data.len()).unwrap().to_be_bytes());
            packet.extend(*data);
        }
        packet
    }

    fn check(family: Family, records: &[(u16, &[u8])], expected: &[&str]) {
        let question = question(7, "time.example", family).unwrap();
        let expected: Vec<IpAddr> = expected.iter().map(|text| text.parse().unwrap()).collect();
        assert_eq!(answer(&question, &reply(&question, records)), Some(expected));
    }

    #[test]
    fn the_addresses_of_the_asked_family_are_found_behind_aliases() {
        check(Family::V4, &[(1, &[10, 0, 0, 1]), (1, &[10, 0, 0, 2])], &["10.0.0.1", "10.0.0.2"]);
        check(Family::V4, &[(5, b"\x01a\xc0\x0c"), (1, &[10, 0, 0, 1])], &["10.0.0.1"]);
        check(Family::V4, &[(28, &[0; 16])], &[]);
        check(Family::V6, &[(28, &[0xfe; 16])], &["fefe:fefe:fefe:fefe:fefe:fefe:fefe:fefe"]);
        check(Family::V4, &[(1, &[10, 0, 0])], &[]);
        check(Family::V4, &[(1, &[10, 0, 0, 9][..]); 9], &["10.0.0.9"; 4]);
    }

    #[test]
    fn only_an_answer_to_the_question_is_read() {
        let question = question(7, "time.example.", Family::V4).unwrap();
        let good = reply(&question, &[(1, &[10, 0, 0, 1])]);
        assert!(answer(&question, &good).is_some());
        for at in [0, 1, 13, 20] {
            let mut other = good.clone();
            other[at] ^= 1;
            assert_eq!(answer(&question, &other), None, "{at}");
        }
        assert_eq!(answer(&question, &question), None, "the question itself");
        assert_eq!(answer(&question, &good[..good.len() - 1]), Some(vec![]), "cut off");
    }

    #[test]
    fn what_is_no_name_is_not_asked_for() {
        for name in ["", ".", "a..b", &"a".repeat(64), &"a.".repeat(128)] {
            assert_eq!(question(7, name, Family::V4), None, "{name}");
        }
    }

    #[test]
    fn name_servers_are_found_among_other_lines() {
        let text = "# x\nnameserver 10.0.2.3\nsearch a b\nnameserver\nnameserver x\n\
                    nameserver ::1 # y\noptions ndots:1\n";
        let expected: Vec<IpAddr> = vec!["10.0.2.3".parse().unwrap(), "::1".parse().unwrap()];
        assert_eq!(name_servers(text), expected);
    }

    proptest! {
        #[test]
        fn no_answer_makes_it_panic(records: Vec<u8>, count: u8) {
            let question = question(7, "a.b", Family::V4).unwrap();
            let mut packet = reply(&question, &[]);
            packet[7] = count;
            packet.extend(records);
            let _ = answer(&question, &packet);
        }

        #[test]
        fn no_bytes_make_it_panic(asked: Vec<u8>, packet: Vec<u8>) {
            let _ = answer(&asked, &packet);
        }

        #[test]
        fn no_name_makes_it_panic(name: String) {
            let _ = question(7, &name, Family::V6);
        }
    }
}
