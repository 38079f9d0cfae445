//! A DHCP message as bytes (RFC 2131, 2; options RFC 2132; long options RFC 3396).
//!
//! Any machine on the link can send any bytes, so parsing checks every length, and options are kept
//! as bytes: [`crate::lease`] interprets them.

use std::collections::BTreeMap;
use std::fmt;
use std::net::Ipv4Addr;

/// UDP port of servers.
pub const SERVER_PORT: u16 = 67;
/// UDP port of clients.
pub const CLIENT_PORT: u16 = 68;

/// Bytes of the fixed fields: `op`, `htype`, `hlen` … `chaddr`, `sname`, `file`.
const FIXED: usize = 236;
const COOKIE: [u8; 4] = [99, 130, 83, 99];
/// The shortest message. Relays and old servers drop messages that are shorter than a BOOTP message
/// (RFC 1542, 2.1).
const BYTES_MIN: usize = 300;
const ETHERNET: u8 = 1;
const SNAME: std::ops::Range<usize> = 44..108;
const FILE: std::ops::Range<usize> = 108..236;

/// Codes of the options that the client sends or understands.
pub mod option {
    /// Subnet mask.
    pub const MASK: u8 = 1;
    /// Routers, best first.
    pub const ROUTER: u8 = 3;
    /// Name servers, best first.
    pub const NAME_SERVER: u8 = 6;
    /// The client's name.
    pub const HOST_NAME: u8 = 12;
    /// The domain of the client.
    pub const DOMAIN: u8 = 15;
    /// Interface MTU.
    pub const MTU: u8 = 26;
    /// Address that the client requests.
    pub const REQUESTED: u8 = 50;
    /// Lease time in seconds.
    pub const LEASE_TIME: u8 = 51;
    /// `file` and `sname` hold options too.
    pub const OVERLOAD: u8 = 52;
    /// Kind of message.
    pub const KIND: u8 = 53;
    /// Identifies the server by one of its addresses.
    pub const SERVER: u8 = 54;
    /// Codes of the options that the client wants.
    pub const PARAMETERS: u8 = 55;
    /// The server's text about a refusal.
    pub const TEXT: u8 = 56;
    /// Longest message that the client accepts.
    pub const MESSAGE_BYTES: u8 = 57;
    /// T1 in seconds.
    pub const RENEWAL_TIME: u8 = 58;
    /// T2 in seconds.
    pub const REBINDING_TIME: u8 = 59;
    /// The client's identifier.
    pub const CLIENT_ID: u8 = 61;
    /// Domains to search (RFC 3397).
    pub const SEARCH: u8 = 119;
    /// Classless static routes (RFC 3442).
    pub const ROUTES: u8 = 121;
    pub(super) const PAD: u8 = 0;
    pub(super) const END: u8 = 255;
}

/// Option 53.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A client searches for servers.
    Discover,
    /// A server's offer.
    Offer,
    /// The client accepts an offer, or asks to keep an address.
    Request,
    /// The server grants the lease.
    Ack,
    /// The server refuses the lease.
    Nak,
}

impl Kind {
    const ALL: [(u8, Self); 5] =
        [(1, Self::Discover), (2, Self::Offer), (3, Self::Request), (5, Self::Ack), (6, Self::Nak)];

    fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find_map(|(known, kind)| (known == code).then_some(kind))
    }

    fn code(self) -> u8 {
        Self::ALL.into_iter().find_map(|(code, kind)| (kind == self).then_some(code)).unwrap_or(0)
    }
}

/// Options by code; parts of one option are joined (RFC 3396). `PAD`, `END`, `OVERLOAD` and `KIND`
/// are never included.
pub type Options = BTreeMap<u8, Vec<u8>>;

/// A message, from or to a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// True for a message from a server (`BOOTREPLY`), false for one to a server.
    pub reply: bool,
    /// The kind of message.
    pub kind: Kind,
    /// Transaction id; a reply repeats the id of the request.
    pub transaction: u32,
    /// Seconds since the client began.
    pub seconds: u16,
    /// The address that the client uses and answers ARP requests for.
    pub client: Ipv4Addr,
    /// The address that the server assigns.
    pub yours: Ipv4Addr,
    /// The client's Ethernet address.
    pub hardware: [u8; 6],
    /// All other options.
    pub options: Options,
}

/// The reason why bytes are not a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MessageError {
    /// The fixed part or an option is incomplete.
    Truncated,
    /// DHCP's magic cookie is missing, or the kind of message is unknown.
    NotDhcp,
    /// Not for an Ethernet address.
    NotEthernet,
}

impl fmt::Display for MessageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Truncated => "truncated message",
            Self::NotDhcp => "not a DHCP message",
            Self::NotEthernet => "not for Ethernet",
        })
    }
}

impl std::error::Error for MessageError {}

impl Message {
    /// Builds the payload of a UDP datagram.
    #[must_use]
    pub fn build(&self) -> Vec<u8> {
        let mut bytes = vec![if self.reply { 2 } else { 1 }, ETHERNET, 6, 0];
        bytes.extend(self.transaction.to_be_bytes());
        bytes.extend(self.seconds.to_be_bytes());
        bytes.extend([0, 0]); // no broadcast flag: the packet socket sees unicast replies too
        bytes.extend(self.client.octets());
        bytes.extend(self.yours.octets());
        bytes.extend([0; 8]); // next server, relay
        bytes.extend(self.hardware);
        bytes.resize(FIXED, 0);
        bytes.extend(COOKIE);
        put(&mut bytes, option::KIND, &[self.kind.code()]);
        for (code, value) in &self.options {
            put(&mut bytes, *code, value);
        }
        bytes.push(option::END);
        bytes.resize(bytes.len().max(BYTES_MIN), 0);
        bytes
    }

    /// Parses the payload of a UDP datagram.
    pub fn parse(bytes: &[u8]) -> Result<Self, MessageError> {
        let (fixed, rest) = bytes.split_at_checked(FIXED).ok_or(MessageError::Truncated)?;
        let rest = rest.strip_prefix(&COOKIE).ok_or(MessageError::NotDhcp)?;
        if fixed[1..3] != [ETHERNET, 6] {
            return Err(MessageError::NotEthernet);
        }
        let mut options = all_options(fixed, rest)?;
        let kind = match options.remove(&option::KIND).as_deref() {
            Some(&[code]) => Kind::from_code(code).ok_or(MessageError::NotDhcp)?,
            _ => return Err(MessageError::NotDhcp),
        };
        Ok(Self {
            reply: fixed[0] == 2,
            kind,
            transaction: u32::from_be_bytes(four(fixed, 4)),
            seconds: u16::from_be_bytes([fixed[8], fixed[9]]),
            client: four(fixed, 12).into(),
            yours: four(fixed, 16).into(),
            hardware: [fixed[28], fixed[29], fixed[30], fixed[31], fixed[32], fixed[33]],
            options,
        })
    }

    /// Returns the value of an option that is one address.
    #[must_use]
    pub fn address(&self, code: u8) -> Option<Ipv4Addr> {
        let value: [u8; 4] = self.options.get(&code)?.as_slice().try_into().ok()?;
        Some(value.into())
    }

    /// Returns the value of an option that is a list of addresses; empty if absent or malformed.
    #[must_use]
    pub fn addresses(&self, code: u8) -> Vec<Ipv4Addr> {
        let value = self.options.get(&code).map_or(&[][..], Vec::as_slice);
        let (addresses, rest) = value.as_chunks::<4>();
        if rest.is_empty() { addresses.iter().map(|four| (*four).into()).collect() } else { vec![] }
    }

    /// Returns the value of an option that is a 32-bit number.
    #[must_use]
    pub fn number(&self, code: u8) -> Option<u32> {
        Some(u32::from_be_bytes(self.options.get(&code)?.as_slice().try_into().ok()?))
    }
}

/// Reads the options area, then the options in `file`, then the options in `sname` (RFC 2131, 4.1).
fn all_options(fixed: &[u8], rest: &[u8]) -> Result<Options, MessageError> {
    let mut options = Options::new();
    read(rest, &mut options)?;
    let overload = options.remove(&option::OVERLOAD);
    if matches!(overload.as_deref(), Some([1 | 3])) {
        read(&fixed[FILE], &mut options)?;
    }
    if matches!(overload.as_deref(), Some([2 | 3])) {
        read(&fixed[SNAME], &mut options)?;
    }
    options.remove(&option::OVERLOAD);
    Ok(options)
}

/// Reads one area of options. A missing `END` is accepted, because some servers leave it out.
fn read(mut area: &[u8], options: &mut Options) -> Result<(), MessageError> {
    while let Some((&code, after)) = area.split_first() {
        match code {
            option::PAD => area = after,
            option::END => break,
            _ => {
                let (&length, after) = after.split_first().ok_or(MessageError::Truncated)?;
                let (value, after) =
                    after.split_at_checked(length.into()).ok_or(MessageError::Truncated)?;
                options.entry(code).or_default().extend(value);
                area = after;
            }
        }
    }
    Ok(())
}

/// Writes an option, in parts if it is longer than one option can be.
fn put(bytes: &mut Vec<u8>, code: u8, value: &[u8]) {
    for part in value.chunks(255) {
        // A chunk of 255 bytes has a length that fits.
        bytes.extend([code, u8::try_from(part.len()).unwrap_or(u8::MAX)]);
        bytes.extend(part);
    }
}

/// Reads four bytes; the caller has checked that the fixed part is complete.
fn four(fixed: &[u8], at: usize) -> [u8; 4] {
    [fixed[at], fixed[at + 1], fixed[at + 2], fixed[at + 3]]
}

#[cfg(test)]
mod tests {
    use super::{COOKIE, FIXED, Kind, Message, MessageError, Options, option};
    use proptest::prelude::*;
    use std::net::Ipv4Addr;

    fn message(options: Options) -> Message {
        Message {
            reply: true,
            kind: Kind::Ack,
            transaction: 0x0102_0304,
            seconds: 7,
            client: Ipv4Addr::new(10, 0, 0, 1),
            yours: Ipv4Addr::new(10, 0, 0, 2),
            hardware: [2, 0, 0, 0, 0, 9],
            options,
        }
    }

    /// A reply with these bytes after the cookie.
    fn with_options(options: &[u8]) -> Vec<u8> {
        let mut bytes = message(Options::new()).build();
        bytes.truncate(FIXED);
        bytes.extend(COOKIE);
        bytes.extend(options);
        bytes
    }

    fn check(bytes: &[u8], expected: Result<&[(u8, &[u8])], MessageError>) {
        let options = Message::parse(bytes).map(|message| message.options);
        let expected = expected
            .map(|options| options.iter().map(|(code, value)| (*code, value.to_vec())).collect());
        assert_eq!(options, expected);
    }

    #[test]
    fn options_are_read_whole_or_not_at_all() {
        check(&with_options(&[53, 1, 5, 255]), Ok(&[]));
        check(&with_options(&[53, 1, 5]), Ok(&[])); // no END
        check(&with_options(&[0, 0, 53, 1, 5, 3, 0, 255, 9]), Ok(&[(3, &[])]));
        check(&with_options(&[53, 1, 5, 12, 9, b'a']), Err(MessageError::Truncated));
        check(&with_options(&[53, 1, 5, 12]), Err(MessageError::Truncated));
        check(&with_options(&[53, 1, 9, 255]), Err(MessageError::NotDhcp));
        check(&with_options(&[53, 2, 5, 5, 255]), Err(MessageError::NotDhcp));
        check(&with_options(&[255]), Err(MessageError::NotDhcp));
        check(&with_options(&[])[..FIXED], Err(MessageError::NotDhcp));
        check(&[2, 1, 6], Err(MessageError::Truncated));
    }

    #[test]
    fn parts_of_a_long_option_are_joined() {
        check(&with_options(&[53, 1, 5, 15, 1, b'a', 15, 1, b'b']), Ok(&[(15, b"ab")]));
    }

    #[test]
    fn overloaded_fields_are_read_once() {
        let mut bytes = with_options(&[53, 1, 5, 52, 1, 3, 255]);
        bytes[108..114].copy_from_slice(&[15, 1, b'f', 52, 1, 3]);
        bytes[44..47].copy_from_slice(&[15, 1, b's']);
        check(&bytes, Ok(&[(15, b"fs")]));
        bytes[108..112].copy_from_slice(&[15, 255, 0, 0]);
        check(&bytes, Err(MessageError::Truncated));
    }

    #[test]
    fn a_message_for_another_kind_of_link_is_refused() {
        let mut bytes = with_options(&[53, 1, 5]);
        bytes[2] = 16;
        check(&bytes, Err(MessageError::NotEthernet));
    }

    #[test]
    fn lists_with_half_an_address_are_empty() {
        let message = message(Options::from([(option::ROUTER, vec![10, 0, 0, 1, 10])]));
        assert_eq!(message.addresses(option::ROUTER), Vec::<Ipv4Addr>::new());
        assert_eq!(message.address(option::ROUTER), None);
    }

    proptest! {
        #[test]
        fn a_built_message_is_read_back(value in proptest::collection::vec(any::<u8>(), 1..600)) {
            let message = message(Options::from([(option::DOMAIN, value)]));
            prop_assert_eq!(Message::parse(&message.build()), Ok(message));
        }

        #[test]
        fn any_options_give_an_error_or_a_message_that_survives_a_round_trip(options: Vec<u8>) {
            let bytes = with_options(&[&[53, 1, 5], &options[..]].concat());
            if let Ok(message) = Message::parse(&bytes) {
                prop_assert!(message.options.values().map(Vec::len).sum::<usize>() <= bytes.len());
                let again = Message::parse(&message.build()).unwrap();
                // An empty option has no bytes to build.
                prop_assert!(again.options.iter().all(|(code, value)| message.options[code] == *value));
                prop_assert_eq!((again.kind, again.yours), (message.kind, message.yours));
            }
        }

        #[test]
        fn bytes_without_the_cookie_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let cookie = bytes.get(236..240) == Some(&[99, 130, 83, 99]);
            prop_assert!(cookie || Message::parse(&bytes).is_err());
        }
    }
}
