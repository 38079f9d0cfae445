//! A lease, read from a server's message: address, routes, resolver, times.
//!
//! The options are those of RFC 2132, classless routes of RFC 3442 and the search list of RFC 3397.
//! An invalid optional option is left out; only an error that makes the lease unusable refuses it.

use std::fmt;
use std::net::Ipv4Addr;
use std::time::Duration;

use crate::Time;
use crate::message::{Kind, Message, option};

/// The lease time of a lease that never expires (RFC 2131, 3.3).
const INFINITE: u32 = u32::MAX;
/// The shortest accepted lease. A shorter lease cannot be renewed in time and would keep client and
/// server busy.
pub const DURATION_MIN: Duration = Duration::from_secs(5);
/// The smallest accepted MTU, which every IPv4 host must be able to receive (RFC 791); some servers
/// send 0 or 68 by mistake.
const MTU_MIN: u16 = 576;
/// The most routes; more are an attempt to fill the routing table.
const ROUTES_MAX: usize = 64;
const NAME_SERVERS_MAX: usize = 8;
const DOMAINS_MAX: usize = 16;
const DOMAIN_BYTES_MAX: usize = 253;

/// A leased address, and the configuration that came with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// The address.
    pub address: Ipv4Addr,
    /// Length of the subnet's prefix, 0 to 32.
    pub prefix: u8,
    /// The server that granted the lease.
    pub server: Ipv4Addr,
    /// The time at which the request was sent; all other times count from it.
    pub since: Time,
    /// The time at which the client starts to ask the same server to extend the lease (T1).
    pub renew_at: Time,
    /// The time at which the client starts to ask any server (T2).
    pub rebind_at: Time,
    /// The time at which the address must no longer be used; `Time::MAX` means never.
    pub expires: Time,
    /// Routes other than the subnet's own, in the server's order.
    pub routes: Vec<Route>,
    /// The link's MTU in bytes.
    pub mtu: Option<u16>,
    /// Name servers, best first.
    pub name_servers: Vec<Ipv4Addr>,
    /// Domains to search for names without a dot.
    pub search: Vec<String>,
}

/// A route through the interface that has the leased address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Route {
    /// The destination, host bits cleared.
    pub destination: Ipv4Addr,
    /// Length of its prefix, 0 (default route) to 32.
    pub prefix: u8,
    /// The router; `None` when the destination is on the link itself.
    pub gateway: Option<Ipv4Addr>,
}

/// The reason why a message is not a usable lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaseError {
    /// The address cannot belong to one machine.
    Address(Ipv4Addr),
    /// Option 54 is missing.
    NoServer,
    /// Option 51 is missing or below [`DURATION_MIN`].
    Time(Option<u32>),
}

impl fmt::Display for LeaseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => write!(f, "{address} cannot be the address of one machine"),
            Self::NoServer => f.write_str("the server identifier (option 54) is missing"),
            Self::Time(None) => f.write_str("the lease time (option 51) is missing"),
            Self::Time(Some(seconds)) => write!(f, "a lease of {seconds} s is too short"),
        }
    }
}

impl std::error::Error for LeaseError {}

impl Lease {
    /// Reads an OFFER or ACK; `since` is the time at which the request was sent.
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

    /// True if `address` is on the subnet of the leased address.
    #[must_use]
    pub fn on_link(&self, address: Ipv4Addr) -> bool {
        network(address, self.prefix) == network(self.address, self.prefix)
    }

    /// Returns the time that is left at `now`; `None` if the lease never expires.
    #[must_use]
    pub fn remaining(&self, now: Time) -> Option<Duration> {
        (self.expires != Time::MAX).then(|| self.expires.saturating_sub(now))
    }

    /// Returns the length of the lease; `None` if it never expires.
    #[must_use]
    pub fn duration(&self) -> Option<Duration> {
        self.remaining(self.since)
    }

    /// Returns the lease without default routes.
    #[must_use]
    pub fn without_default_route(&self) -> Self {
        let mut lease = self.clone();
        lease.routes.retain(|route| route.prefix > 0);
        lease
    }

    /// Returns the router of the default route.
    #[must_use]
    pub fn router(&self) -> Option<Ipv4Addr> {
        self.routes.iter().find(|route| route.prefix == 0).and_then(|route| route.gateway)
    }
}

/// Returns T1, T2 and the expiry. The defaults of RFC 2131, 4.4.5 replace values that contradict each
/// other.
fn times(message: &Message, since: Time) -> Result<(Time, Time, Time), LeaseError> {
    let seconds = message.number(option::LEASE_TIME).ok_or(LeaseError::Time(None))?;
    if seconds == INFINITE {
        return Ok((Time::MAX, Time::MAX, Time::MAX));
    }
    let lease = Duration::from_secs(seconds.into());
    if lease < DURATION_MIN {
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

/// Returns a mask's prefix length; `None` for a mask with holes.
fn prefix(mask: Ipv4Addr) -> Option<u8> {
    let ones = mask.to_bits().leading_ones();
    (mask.to_bits().count_ones() == ones).then(|| u8::try_from(ones).ok())?
}

/// Returns the prefix length of the address's class (RFC 791), for a message without a mask.
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

/// Returns the routes of option 121, or else a default route through the first router of option 3,
/// never both (RFC 3442).
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

/// Parses option 121. Returns `None` if it is malformed, because half a routing table is worse than
/// option 3.
fn classless_routes(mut value: &[u8]) -> Option<Vec<Route>> {
    let mut routes = Vec::new();
    while let Some((&prefix, rest)) = value.split_first() {
        if prefix > 32 || routes.len() == ROUTES_MAX {
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
    Some(u16::from_be_bytes(value)).filter(|mtu| *mtu >= MTU_MIN)
}

fn name_servers(message: &Message) -> Vec<Ipv4Addr> {
    let servers = message.addresses(option::NAME_SERVER).into_iter();
    servers.filter(|address| usable(*address)).take(NAME_SERVERS_MAX).collect()
}

/// Returns the search list, or else the domain.
fn search(message: &Message) -> Vec<String> {
    let list = message.options.get(&option::SEARCH).and_then(|value| search_list(value));
    list.unwrap_or_else(|| {
        let text = message.options.get(&option::DOMAIN).map_or(&[][..], Vec::as_slice);
        let text = std::str::from_utf8(text).unwrap_or_default().trim_end_matches(['\0', '.']);
        Some(text.to_owned()).filter(|name| is_domain(name)).into_iter().collect()
    })
}

/// Parses names in the form of RFC 1035, 4.1.4; returns `None` if anything is malformed.
fn search_list(value: &[u8]) -> Option<Vec<String>> {
    let mut names = Vec::new();
    let mut at = 0;
    while at < value.len() && names.len() < DOMAINS_MAX {
        let (name, next) = compressed_name(value, at)?;
        names.push(name);
        at = next;
    }
    (!names.is_empty()).then_some(names)
}

/// Returns the name at offset `at`, and the offset of the next name.
///
/// The loop terminates, because a pointer must point before itself and a name has a maximum length: a
/// cycle of pointers contains at least one label, which makes the name longer in each round.
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
        if name.len() > DOMAIN_BYTES_MAX {
            return None;
        }
    }
    is_domain(&name).then(|| (name, next.unwrap_or(at + 1)))
}

/// True if a name has only letters, digits, hyphens, underscores and single dots, so that it is safe
/// to write into `resolv.conf`.
fn is_domain(name: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    name.len() <= DOMAIN_BYTES_MAX && name.split('.').all(label)
}

/// True if a server sent the message to this client in this transaction.
#[must_use]
pub fn is_reply(message: &Message, transaction: u32, hardware: [u8; 6]) -> bool {
    message.reply
        && message.transaction == transaction
        && message.hardware == hardware
        && matches!(message.kind, Kind::Offer | Kind::Ack | Kind::Nak)
}

#[cfg(test)]
pub(crate) mod tests;
