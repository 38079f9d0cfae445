//! DNS messages: questions to a name server, and its answers (RFC 1035 section 4).
//!
//! The C library's resolver loads shared objects at run time, which a static program cannot do, so
//! PID 1's applets and the pods send queries themselves. This module only builds and parses messages;
//! sockets, timeouts and the choice of a server are left to the caller.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Range;

const HEADER: usize = 12;
const INTERNET: u16 = 1;
const CNAME: u16 = 5;
const OPT: u16 = 41;
const RESPONSE: u8 = 0x80;
const TRUNCATED: u8 = 0x02;
const OPCODE: u8 = 0x78;
const RECURSION_DESIRED: u8 = 1;
/// The response code for a name that does not exist (section 4.1.1).
const NAME_ERROR: u8 = 3;
/// The two highest bits, which mark a pointer (section 4.1.4).
const POINTER: u8 = 0xc0;
/// The most pointers in one name; valid names need only a few.
const JUMPS_MAX: usize = 16;
/// The most aliases between a name and its addresses.
const ALIASES_MAX: usize = 8;
/// The most addresses that are read from one answer.
const ADDRESSES_MAX: usize = 16;
/// The most bytes of a name without its final dot (section 2.3.4).
const NAME_BYTES_MAX: usize = 253;
/// The most bytes of a label (section 2.3.4).
const LABEL_BYTES_MAX: usize = 63;
/// The largest answer over UDP that fits every network path, in bytes (DNS flag day 2020).
const UDP_BYTES_MAX: u16 = 1232;
/// The most name servers that are used, as in the C library (resolv.conf(5)).
const NAME_SERVERS_MAX: usize = 3;

/// The family of the requested addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// A records.
    V4 = 1,
    /// AAAA records (RFC 3596).
    V6 = 28,
}

/// A question for the addresses of a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    id: u16,
    /// In lower case, without a final dot.
    name: String,
    family: Family,
}

/// A server's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Addresses, and the number of seconds for which they are valid.
    Addresses(Vec<IpAddr>, u32),
    /// The name does not exist, or has no address of this family.
    Nothing,
    /// The answer was truncated to these addresses. The complete answer is available over TCP.
    Truncated(Vec<IpAddr>),
    /// The server could not answer.
    Failure,
}

impl Answer {
    /// Returns the addresses in the answer.
    #[must_use]
    pub fn addresses(self) -> Vec<IpAddr> {
        match self {
            Self::Addresses(addresses, _) | Self::Truncated(addresses) => addresses,
            Self::Nothing | Self::Failure => Vec::new(),
        }
    }
}

impl Question {
    /// Creates a question with the number `id` for a name, with or without a final dot; returns `None`
    /// if the name is invalid.
    #[must_use]
    pub fn new(id: u16, name: &str, family: Family) -> Option<Self> {
        let name = name.strip_suffix('.').unwrap_or(name);
        let fits = name.is_ascii()
            && name.len() <= NAME_BYTES_MAX
            && name.split('.').all(|label| (1..=LABEL_BYTES_MAX).contains(&label.len()));
        fits.then(|| Self { id, name: name.to_ascii_lowercase(), family })
    }

    /// Builds the message. The answer over UDP can have up to 512 bytes.
    #[must_use]
    pub fn message(&self) -> Vec<u8> {
        let mut packet = Vec::with_capacity(HEADER + self.name.len() + 17);
        packet.extend(self.id.to_be_bytes());
        packet.extend([RECURSION_DESIRED, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
        for label in self.name.split('.') {
            // `new` accepts only labels of up to 63 bytes.
            packet.push(u8::try_from(label.len()).unwrap_or(0));
            packet.extend(label.bytes());
        }
        packet.push(0);
        packet.extend((self.family as u16).to_be_bytes());
        packet.extend(INTERNET.to_be_bytes());
        packet
    }

    /// Builds the message with EDNS(0) and no options (RFC 6891). The answer over UDP can have up to
    /// 1232 bytes.
    #[must_use]
    pub fn message_with_edns(&self) -> Vec<u8> {
        let mut packet = self.message();
        packet[HEADER - 1] = 1;
        packet.push(0);
        packet.extend(OPT.to_be_bytes());
        packet.extend(UDP_BYTES_MAX.to_be_bytes());
        packet.extend([0; 6]);
        packet
    }

    /// Parses the answer to this question; `None` if the message is not an answer to the question.
    #[must_use]
    pub fn answer(&self, packet: &[u8]) -> Option<Answer> {
        let header: &[u8; HEADER] = packet.first_chunk()?;
        let number = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
        if number(0) != self.id || header[2] & (RESPONSE | OPCODE) != RESPONSE {
            return None;
        }
        let failure = header[3] & 0x0f;
        if number(4) != 1 {
            // Some servers refuse without repeating the question.
            return (number(4) == 0 && failure != 0).then_some(Answer::Failure);
        }
        let (asked, at) = read_name(packet, HEADER)?;
        let kind: &[u8; 4] = packet.get(at..)?.first_chunk()?;
        let wanted = (self.family as u16).to_be_bytes();
        if asked != self.name || kind[..2] != wanted || kind[2..] != INTERNET.to_be_bytes() {
            return None;
        }
        let (records, whole) = records(packet, at + 4, number(6));
        match failure {
            _ if header[2] & TRUNCATED != 0 => {
                Some(Answer::Truncated(self.addresses(packet, &records).addresses()))
            }
            0 if whole => Some(self.addresses(packet, &records)),
            NAME_ERROR => Some(Answer::Nothing),
            _ => Some(Answer::Failure),
        }
    }

    /// Returns the addresses of the name, or of the name that its aliases lead to. Ignores records of
    /// other names.
    fn addresses(&self, packet: &[u8], records: &[Record]) -> Answer {
        let (mut owner, mut ttl) = (self.name.clone(), u32::MAX);
        for _ in 0..=ALIASES_MAX {
            let ours = |kind: u16| {
                let owner = owner.as_str();
                records.iter().filter(move |record| record.owner == owner && record.kind == kind)
            };
            let found: Vec<IpAddr> = ours(self.family as u16)
                .inspect(|record| ttl = ttl.min(record.ttl))
                .filter_map(|record| address(&packet[record.data.clone()]))
                .take(ADDRESSES_MAX)
                .collect();
            if !found.is_empty() {
                return Answer::Addresses(found, ttl);
            }
            let Some(alias) = ours(CNAME).next() else { return Answer::Nothing };
            let Some((target, _)) = read_name(packet, alias.data.start) else {
                return Answer::Failure;
            };
            ttl = ttl.min(alias.ttl);
            owner = target;
        }
        Answer::Failure
    }
}

#[derive(Debug)]
struct Record {
    owner: String,
    kind: u16,
    ttl: u32,
    data: Range<usize>,
}

/// Returns the records that can be read, and true if these are all records.
fn records(packet: &[u8], mut at: usize, count: u16) -> (Vec<Record>, bool) {
    let mut records = Vec::new();
    for _ in 0..count {
        let Some((record, after)) = read_record(packet, at) else { return (records, false) };
        records.extend(record);
        at = after;
    }
    (records, true)
}

/// Returns a record (`None` for a record of another class) and the offset after it.
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

/// Returns a name in lower case, and the offset after it.
fn read_name(packet: &[u8], start: usize) -> Option<(String, usize)> {
    let (mut at, mut end, mut lowest, mut jumps) = (start, None, start, 0);
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
                // Each pointer must lead further back, which makes a cycle impossible.
                if target >= lowest || jumps > JUMPS_MAX {
                    return None;
                }
                (at, lowest) = (target, target);
            }
            1..=63 => {
                let label = packet.get(at + 1..at + 1 + usize::from(length))?;
                push_label(&mut name, label)?;
                at += 1 + usize::from(length);
            }
            _ => return None,
        }
    }
}

/// Appends a label. A label that contains a dot is refused, because it would look like two labels.
fn push_label(name: &mut String, label: &[u8]) -> Option<()> {
    if !name.is_empty() {
        name.push('.');
    }
    // A byte above 127 takes two bytes of UTF-8.
    let fits = name.len() + label.len() * 2 <= NAME_BYTES_MAX * 2;
    let label = (fits && !label.contains(&b'.')).then_some(label)?;
    name.extend(label.iter().map(|byte| char::from(byte.to_ascii_lowercase())));
    Some(())
}

/// Returns the first name servers in the text of a `resolv.conf`, in their order.
#[must_use]
pub fn name_servers(resolv_conf: &str) -> Vec<IpAddr> {
    let server = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        (words.next()? == "nameserver").then(|| words.next()?.parse().ok())?
    };
    resolv_conf.lines().filter_map(server).take(NAME_SERVERS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::{Answer, Family, Question, name_servers};
    use proptest::prelude::*;
    use std::net::IpAddr;

    type Records<'a> = [(&'a str, u16, u32, &'a [u8])];

    fn question(name: &str) -> Question {
        Question::new(7, name, Family::V4).unwrap()
    }

    fn wire(name: &str) -> Vec<u8> {
        let labels = name
            .split('.')
            .flat_map(|l| [&[u8::try_from(l.len()).unwrap()], l.as_bytes()].concat());
        labels.chain([0]).collect()
    }

    /// Builds an answer with these records: owner (empty for a pointer to the question's name), type,
    /// seconds, data.
    fn reply(question: &Question, code: u8, records: &Records<'_>) -> Vec<u8> {
        let mut packet = question.message();
        packet[2] |= 0x80;
        packet[3] = code;
        packet[7] = u8::try_from(records.len()).unwrap();
        for (owner, kind, ttl, data) in records {
            packet.extend(if owner.is_empty() { vec![0xc0, 12] } else { wire(owner) });
            packet.extend(kind.to_be_bytes());
            packet.extend([0, 1]);
            packet.extend(ttl.to_be_bytes());
            packet.extend(u16::try_from(data.len()).unwrap().to_be_bytes());
            packet.extend(*data);
        }
        packet
    }

    fn check(family: Family, code: u8, records: &Records<'_>, expected: Answer) {
        let question = Question::new(7, "A.Test.", family).unwrap();
        let packet = reply(&question, code, records);
        assert_eq!(question.answer(&packet), Some(expected), "{records:?}");
    }

    fn found(addresses: &[&str], ttl: u32) -> Answer {
        Answer::Addresses(addresses.iter().map(|text| text.parse().unwrap()).collect(), ttl)
    }

    #[test]
    fn aliases_are_followed_and_other_records_are_ignored() {
        let (v4, b) = (Family::V4, wire("b.test"));
        let evil = ("evil.test", 1, 9, &[6, 6, 6, 6][..]);
        let direct = [("", 1, 30, &[10, 0, 0, 1][..]), ("", 1, 20, &[10, 0, 0, 2])];
        check(v4, 0, &direct, found(&["10.0.0.1", "10.0.0.2"], 20));
        let alias = [("b.test", 1, 30, &[10, 0, 0, 5][..]), ("A.test", 5, 20, &b), evil];
        check(v4, 0, &alias, found(&["10.0.0.5"], 20));
        check(v4, 0, &[evil], Answer::Nothing);
        check(v4, 0, &[("", 5, 9, &wire("a.test"))], Answer::Failure);
        check(v4, 0, &[("", 28, 9, &[0; 16])], Answer::Nothing);
        check(
            Family::V6,
            0,
            &[("", 28, 9, &[0xfe; 16])],
            found(&["fefe:fefe:fefe:fefe:fefe:fefe:fefe:fefe"], 9),
        );
        check(v4, 0, &[("", 1, 9, &[10, 0, 0])], Answer::Nothing);
        check(v4, 0, &[("", 1, u32::MAX, &[10, 0, 0, 9])], found(&["10.0.0.9"], 0));
        check(v4, 0, &[("", 1, 9, &[10, 0, 0, 9][..]); 40], found(&["10.0.0.9"; 16], 9));
        check(v4, 3, &[], Answer::Nothing);
        check(v4, 2, &[], Answer::Failure);
    }

    #[test]
    fn a_message_that_does_not_answer_the_question_is_ignored() {
        let asked = question("a.test");
        let good = reply(&asked, 0, &[]);
        assert!(asked.answer(&good).is_some());
        for at in [0, 1, 2, 13, good.len() - 3, good.len() - 1] {
            let mut other = good.clone();
            other[at] ^= if at == 2 { 0x80 } else { 2 };
            assert_eq!(asked.answer(&other), None, "{at}");
        }
        assert_eq!(asked.answer(&asked.message_with_edns()), None, "the question itself");
        let refused = [&good[..3], &[5], &[0; 8]].concat();
        assert_eq!(asked.answer(&refused), Some(Answer::Failure), "without the question");
    }

    #[test]
    fn a_truncated_answer_has_its_complete_addresses() {
        let asked = question("a.test");
        let mut cut = reply(&asked, 0, &[("", 1, 9, &[10, 0, 0, 1]), ("", 1, 9, &[10, 0, 0, 2])]);
        cut.pop();
        assert_eq!(asked.answer(&cut), Some(Answer::Failure), "the truncation flag is missing");
        cut[2] |= 2;
        let first = vec!["10.0.0.1".parse().unwrap()];
        assert_eq!(asked.answer(&cut), Some(Answer::Truncated(first)));
    }

    #[test]
    fn a_label_with_a_dot_is_not_two_labels() {
        let asked = question("a.test");
        let mut packet = reply(&asked, 0, &[]);
        packet.splice(12..20, b"\x06a.test\0".iter().copied());
        assert_eq!(asked.answer(&packet), None);
    }

    #[test]
    fn an_invalid_name_is_not_queried() {
        for name in ["", ".", "a..b", ".a", "\u{e4}", &"a".repeat(64), &"a.".repeat(128)] {
            assert_eq!(Question::new(7, name, Family::V4), None, "{name}");
        }
    }

    #[test]
    fn name_servers_are_found_between_other_lines() {
        let text = "# x\nnameserver 10.0.2.3\nsearch a b\nnameserver\nnameserver x\n\
                    nameserver ::1 # y\noptions ndots:1\n";
        let expected: Vec<IpAddr> = vec!["10.0.2.3".parse().unwrap(), "::1".parse().unwrap()];
        assert_eq!(name_servers(text), expected);
    }

    proptest! {
        #[test]
        fn an_answer_to_the_question_is_always_recognised(records: Vec<u8>, flags: u8, count: u8) {
            let asked = question("a.b");
            let mut packet = reply(&asked, 0, &[]);
            packet[2] |= flags & 2;
            packet[7] = count;
            packet.extend(records);
            prop_assert!(asked.answer(&packet).is_some());
        }

        #[test]
        fn bytes_with_another_id_are_not_an_answer(packet: Vec<u8>) {
            let answer = question("a.b").answer(&packet);
            prop_assert!(packet.starts_with(&[0, 7]) || answer.is_none());
        }

        #[test]
        fn an_answer_for_every_valid_name_is_recognised(name: String) {
            if let Some(asked) = Question::new(7, &name, Family::V6) {
                prop_assert_eq!(asked.answer(&reply(&asked, 3, &[])), Some(Answer::Nothing));
            }
        }
    }
}
