//! What a server's message means for this machine: address, routes, resolver, times.
//!
//! Options of RFC 2132, classless routes of RFC 3442, search list of RFC 3397. A wrong optional
//! option is left out; only what makes the lease unusable refuses it.

use std::fmt;
use std::net::Ipv4Addr;
use std::time::Duration;

use crate::Time;
use crate::message::{Kind, Message, option};

/// The lease time that stands for "for ever" (RFC 2131, 3.3).
const INFINITE: u32 = u32::MAX;
/// A shorter lease cannot be renewed in time, and would keep client and server busy.
pub const SHORTEST: Duration = Duration::from_secs(5);
/// Less cannot carry IPv4's smallest datagram (RFC 791); some servers send 0 or 68 by mistake.
const SMALLEST_MTU: u16 = 576;
/// More than this is no configuration, but an attempt to fill the routing table.
const MOST_ROUTES: usize = 64;
const MOST_NAME_SERVERS: usize = 8;
const MOST_DOMAINS: usize = 16;
const LONGEST_DOMAIN: usize = 253;

/// An address for a time, and what came with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// The address.
    pub address: Ipv4Addr,
    /// Length of the subnet's prefix, 0 to 32.
    pub prefix: u8,
    /// Who gave it.
    pub server: Ipv4Addr,
    /// When the request was sent, from which all times count.
    pub since: Time,
    /// When to ask this server again (T1).
    pub renew_at: Time,
    /// When to ask any server (T2).
    pub rebind_at: Time,
    /// When the address must be gone; `Time::MAX` for never.
    pub expires: Time,
    /// Routes besides the subnet's own, in the server's order.
    pub routes: Vec<Route>,
    /// The link's MTU in bytes.
    pub mtu: Option<u16>,
    /// Name servers, best first.
    pub name_servers: Vec<Ipv4Addr>,
    /// Domains to search for names without a dot.
    pub search: Vec<String>,
}

/// A route by way of the leased address's link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Route {
    /// The destination, host bits cleared.
    pub destination: Ipv4Addr,
    /// Length of its prefix, 0 (default route) to 32.
    pub prefix: u8,
    /// The router; `None` when the destination is on the link itself.
    pub gateway: Option<Ipv4Addr>,
}

/// Why a message is no usable lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaseError {
    /// The address cannot belong to one machine.
    Address(Ipv4Addr),
    /// Option 54 is missing.
    NoServer,
    /// Option 51 is missing or below [`SHORTEST`].
    Time(Option<u32>),
}

impl fmt::Display for LeaseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => write!(f, "{address} is no address for a machine"),
            Self::NoServer => f.write_str("the server does not say who it is (option 54)"),
            Self::Time(None) => f.write_str("no lease time (option 51)"),
            Self::Time(Some(seconds)) => write!(f, "a lease of {seconds} s is too short"),
        }
    }
}

impl std::error::Error for LeaseError {}

impl Lease {
    /// Reads an OFFER or ACK; `since` is when the request that it answers was sent.
    pub fn new(message: &Message, since: Time) -> Result<Self, LeaseError> {
        let address = message.yours;
        if !usable(address) {
            return Err(LeaseError::Address(address));
        }
        let server = message.address(option::SERVER).ok_or(LeaseError::NoServer)?;
        let (renew_at, rebind_at, expires) = times(message, since)?;
        let prefix =
            message.address(option::MASK).and_then(prefix).unwrap_or_else(|| class_prefix(address));
        Ok(Self {
            address,
            prefix,
            server,
            since,
            renew_at,
            rebind_at,
            expires,
            routes: routes(message),
            mtu: mtu(message),
            name_servers: name_servers(message),
            search: search(message),
        })
    }

    /// Whether `address` is on the leased address's subnet.
    #[must_use]
    pub fn on_link(&self, address: Ipv4Addr) -> bool {
        network(address, self.prefix) == network(self.address, self.prefix)
    }

    /// How long it still holds at `now`; `None` for ever.
    #[must_use]
    pub fn remaining(&self, now: Time) -> Option<Duration> {
        (self.expires != Time::MAX).then(|| self.expires.saturating_sub(now))
    }

    /// The length of the lease; `None` for ever.
    #[must_use]
    pub fn duration(&self) -> Option<Duration> {
        self.remaining(self.since)
    }

    /// The default route's router.
    #[must_use]
    pub fn router(&self) -> Option<Ipv4Addr> {
        self.routes.iter().find(|route| route.prefix == 0).and_then(|route| route.gateway)
    }
}

/// T1, T2 and the end; the defaults of RFC 2131, 4.4.5 where the server's values make no sense.
fn times(message: &Message, since: Time) -> Result<(Time, Time, Time), LeaseError> {
    let seconds = message.number(option::LEASE_TIME).ok_or(LeaseError::Time(None))?;
    if seconds == INFINITE {
        return Ok((Time::MAX, Time::MAX, Time::MAX));
    }
    let lease = Duration::from_secs(seconds.into());
    if lease < SHORTEST {
        return Err(LeaseError::Time(Some(seconds)));
    }
    let given = |code| message.number(code).map(|seconds| Duration::from_secs(seconds.into()));
    let (renew, rebind) = match (given(option::RENEWAL_TIME), given(option::REBINDING_TIME)) {
        (Some(t1), Some(t2)) if !t1.is_zero() && t1 < t2 && t2 < lease => (t1, t2),
        (Some(t1), None) if !t1.is_zero() && t1 < lease * 7 / 8 => (t1, lease * 7 / 8),
        (None, Some(t2)) if t2 > lease / 2 && t2 < lease => (lease / 2, t2),
        _ => (lease / 2, lease * 7 / 8),
    };
    Ok((since + renew, since + rebind, since + lease))
}

fn usable(address: Ipv4Addr) -> bool {
    let first = address.octets()[0];
    // Not "this network", loopback, multicast, reserved or broadcast.
    !matches!(first, 0 | 127 | 224..=255)
}

/// A mask's prefix length; `None` for a mask with holes.
fn prefix(mask: Ipv4Addr) -> Option<u8> {
    let ones = mask.to_bits().leading_ones();
    (mask.to_bits().count_ones() == ones).then(|| u8::try_from(ones).ok())?
}

/// What RFC 791 says where there is no mask.
fn class_prefix(address: Ipv4Addr) -> u8 {
    match address.octets()[0] {
        0..=127 => 8,
        128..=191 => 16,
        _ => 24,
    }
}

fn network(address: Ipv4Addr, prefix: u8) -> Ipv4Addr {
    let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
    Ipv4Addr::from_bits(address.to_bits() & mask)
}

/// Option 121, or else a default route by the first of option 3, never both (RFC 3442).
fn routes(message: &Message) -> Vec<Route> {
    let classless = message.options.get(&option::ROUTES).and_then(|value| classless_routes(value));
    classless.unwrap_or_else(|| {
        let router = message.addresses(option::ROUTER).into_iter().find(|router| usable(*router));
        let default = |gateway| Route {
            destination: Ipv4Addr::UNSPECIFIED,
            prefix: 0,
            gateway: Some(gateway),
        };
        router.map(default).into_iter().collect()
    })
}

/// `None` when it is malformed: half a routing table is worse than option 3.
fn classless_routes(mut value: &[u8]) -> Option<Vec<Route>> {
    let mut routes = Vec::new();
    while let Some((&prefix, rest)) = value.split_first() {
        if prefix > 32 || routes.len() == MOST_ROUTES {
            return None;
        }
        let (significant, rest) = rest.split_at_checked(usize::from(prefix).div_ceil(8))?;
        let (gateway, rest) = rest.split_first_chunk::<4>()?;
        let mut destination = [0; 4];
        destination[..significant.len()].copy_from_slice(significant);
        let gateway = Ipv4Addr::from(*gateway);
        routes.push(Route {
            destination: network(destination.into(), prefix),
            prefix,
            gateway: (!gateway.is_unspecified()).then_some(gateway),
        });
        value = rest;
    }
    (!routes.is_empty()).then_some(routes)
}

fn mtu(message: &Message) -> Option<u16> {
    let value: [u8; 2] = message.options.get(&option::MTU)?.as_slice().try_into().ok()?;
    Some(u16::from_be_bytes(value)).filter(|mtu| *mtu >= SMALLEST_MTU)
}

fn name_servers(message: &Message) -> Vec<Ipv4Addr> {
    let servers = message.addresses(option::NAME_SERVER).into_iter();
    servers.filter(|address| usable(*address)).take(MOST_NAME_SERVERS).collect()
}

/// The search list, or else the domain.
fn search(message: &Message) -> Vec<String> {
    let list = message.options.get(&option::SEARCH).and_then(|value| search_list(value));
    list.unwrap_or_else(|| {
        let text = message.options.get(&option::DOMAIN).map_or(&[][..], Vec::as_slice);
        let text = std::str::from_utf8(text).unwrap_or_default().trim_end_matches(['\0', '.']);
        Some(text.to_owned()).filter(|name| is_domain(name)).into_iter().collect()
    })
}

/// Names in the form of RFC 1035, 4.1.4; `None` when anything is malformed.
fn search_list(value: &[u8]) -> Option<Vec<String>> {
    let mut names = Vec::new();
    let mut at = 0;
    while at < value.len() && names.len() < MOST_DOMAINS {
        let (name, next) = compressed_name(value, at)?;
        names.push(name);
        at = next;
    }
    (!names.is_empty()).then_some(names)
}

/// The name that begins at `at`, and where the next one begins.
///
/// A pointer must point before itself, and a name ends when it is too long, so this ends: a loop of
/// pointers must pass a label, which makes the name longer.
fn compressed_name(value: &[u8], mut at: usize) -> Option<(String, usize)> {
    let mut name = String::new();
    let mut next = None;
    loop {
        let length = usize::from(*value.get(at)?);
        match length {
            0 => break,
            1..=63 => {
                let label = std::str::from_utf8(value.get(at + 1..=at + length)?).ok()?;
                name.push_str(if name.is_empty() { "" } else { "." });
                name.push_str(label);
                at += 1 + length;
            }
            0xc0..=0xff => {
                let target = (length & 0x3f) << 8 | usize::from(*value.get(at + 1)?);
                if target >= at {
                    return None;
                }
                next.get_or_insert(at + 2);
                at = target;
            }
            _ => return None,
        }
        if name.len() > LONGEST_DOMAIN {
            return None;
        }
    }
    is_domain(&name).then(|| (name, next.unwrap_or(at + 1)))
}

/// Letters, digits, hyphens, underscores and single dots: safe to write into `resolv.conf`.
fn is_domain(name: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    name.len() <= LONGEST_DOMAIN && name.split('.').all(label)
}

/// Whether the message is what a server sends to this client in this transaction.
#[must_use]
pub fn answers(message: &Message, transaction: u32, hardware: [u8; 6]) -> bool {
    message.reply
        && message.transaction == transaction
        && message.hardware == hardware
        && matches!(message.kind, Kind::Offer | Kind::Ack | Kind::Nak)
}

#[cfg(test)]
mod tests;
