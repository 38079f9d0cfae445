//! The few rtnetlink messages that configure one interface, as bytes (rtnetlink(7), netlink(7)).
//!
//! Numbers are in the machine's byte order, addresses in the network's. The kernel is trusted, but
//! every length is checked, because messages of a newer kernel may be longer than expected.

use std::net::Ipv4Addr;
use std::time::Duration;

use crate::lease::Route;

/// An interface, with the properties that the client needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// The kernel's number for the interface.
    pub index: u32,
    /// The name, such as `eth0`.
    pub name: String,
    /// The Ethernet address; `None` for other kinds of link, and for loopback.
    pub hardware: Option<[u8; 6]>,
    /// The flags `IFF_*`.
    pub flags: u32,
    /// True for an interface made by software (bridge, veth, vlan …), false for a driver's interface.
    pub software: bool,
}

impl Link {
    /// True if the interface is up and has a carrier, so that packets can be sent.
    ///
    /// A driver that has a carrier when the interface is brought up (`virtio_net`, veth) can send at
    /// once. [`Link::is_running`] becomes true up to a second later (`net/core/link_watch.c` handles
    /// such events once a second), which is too long to wait at every boot.
    #[must_use]
    pub const fn works(&self) -> bool {
        let wanted = IFF_UP | IFF_LOWER_UP;
        self.flags & wanted == wanted
    }

    /// True if the kernel has certainly started the interface's queues. If the carrier appeared after
    /// the interface was brought up, packets sent before this moment are lost.
    #[must_use]
    pub const fn is_running(&self) -> bool {
        self.flags & IFF_RUNNING != 0
    }

    /// True if the interface is brought up.
    #[must_use]
    pub const fn is_up(&self) -> bool {
        self.flags & IFF_UP != 0
    }
}

/// A message from the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// An interface appeared or changed.
    Link(Link),
    /// The interface with this index disappeared.
    Gone(u32),
    /// The end of a list.
    Done,
    /// The result of a change: 0, or an `errno`.
    Result(i32),
}

/// The direction of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Add the object, or replace it if it exists.
    Put,
    /// Delete the object.
    Delete,
}

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_GETLINK: u16 = 18;
const RTM_NEWADDR: u16 = 20;
const RTM_DELADDR: u16 = 21;
const RTM_NEWROUTE: u16 = 24;
const RTM_DELROUTE: u16 = 25;

const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_DUMP: u16 = 0x300;
const NLM_F_REPLACE: u16 = 0x100;
const NLM_F_CREATE: u16 = 0x400;

const ARPHRD_ETHER: u16 = 1;
const IFF_UP: u32 = 1;
const IFF_LOOPBACK: u32 = 8;
const IFF_RUNNING: u32 = 0x40;
const IFF_LOWER_UP: u32 = 0x1_0000;
const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_LINKINFO: u16 = 18;
const IFLA_INFO_KIND: u16 = 1;

const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_BROADCAST: u16 = 4;
const IFA_CACHEINFO: u16 = 6;

const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_PREFSRC: u16 = 7;
const RT_TABLE_MAIN: u8 = 254;
const RTPROT_DHCP: u8 = 16;
const RT_SCOPE_UNIVERSE: u8 = 0;
const RT_SCOPE_LINK: u8 = 253;
const RTN_UNICAST: u8 = 1;
const RTNH_F_ONLINK: u32 = 4;

const AF_INET: u8 = 2;
const INFINITE: u32 = u32::MAX;
/// Bits of an attribute's type that mark a nested attribute or the network's byte order.
const TYPE_FLAGS: u16 = 0xc000;

/// Requests a list of all interfaces.
#[must_use]
pub fn list_links() -> Vec<u8> {
    message(RTM_GETLINK, NLM_F_DUMP, |body| body.extend([0; 16]))
}

/// Brings an interface up.
#[must_use]
pub fn link_up(index: u32) -> Vec<u8> {
    message(RTM_NEWLINK, NLM_F_ACK, |body| link_header(body, index, IFF_UP))
}

/// Sets an interface's MTU in bytes.
#[must_use]
pub fn link_mtu(index: u32, mtu: u16) -> Vec<u8> {
    message(RTM_NEWLINK, NLM_F_ACK, |body| {
        link_header(body, index, 0);
        attribute(body, IFLA_MTU, &u32::from(mtu).to_ne_bytes());
    })
}

/// Puts or deletes an address. The kernel deletes the address by itself after `remaining` (`None`
/// means never).
#[must_use]
pub fn address(
    change: Change,
    index: u32,
    (address, prefix): (Ipv4Addr, u8),
    remaining: Option<Duration>,
) -> Vec<u8> {
    let (kind, flags) = match change {
        Change::Put => (RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE),
        Change::Delete => (RTM_DELADDR, 0),
    };
    message(kind, NLM_F_ACK | flags, |body| {
        body.extend([AF_INET, prefix, 0, RT_SCOPE_UNIVERSE]);
        body.extend(index.to_ne_bytes());
        attribute(body, IFA_LOCAL, &address.octets());
        attribute(body, IFA_ADDRESS, &address.octets());
        if prefix <= 30 {
            let host_bits = u32::MAX >> prefix;
            let broadcast = Ipv4Addr::from_bits(address.to_bits() | host_bits);
            attribute(body, IFA_BROADCAST, &broadcast.octets());
        }
        let seconds = remaining
            .map_or(INFINITE, |time| u32::try_from(time.as_secs()).unwrap_or(INFINITE).max(1));
        let times = [seconds, seconds, 0, 0]; // preferred, valid, and two time stamps that the kernel sets
        attribute(body, IFA_CACHEINFO, times.map(u32::to_ne_bytes).as_flattened());
    })
}

/// Puts or deletes a route. `source` is the source address of its packets; with `on_link` the kernel
/// accepts a gateway to which it has no route.
#[must_use]
pub fn route(
    change: Change,
    index: u32,
    route: &Route,
    source: Ipv4Addr,
    on_link: bool,
) -> Vec<u8> {
    let (kind, flags) = match change {
        Change::Put => (RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE),
        Change::Delete => (RTM_DELROUTE, 0),
    };
    let scope = if route.gateway.is_some() { RT_SCOPE_UNIVERSE } else { RT_SCOPE_LINK };
    let hop = if on_link && route.gateway.is_some() { RTNH_F_ONLINK } else { 0 };
    message(kind, NLM_F_ACK | flags, |body| {
        body.extend([AF_INET, route.prefix, 0, 0, RT_TABLE_MAIN, RTPROT_DHCP, scope, RTN_UNICAST]);
        body.extend(hop.to_ne_bytes());
        if route.prefix > 0 {
            attribute(body, RTA_DST, &route.destination.octets());
        }
        attribute(body, RTA_OIF, &index.to_ne_bytes());
        if let Some(gateway) = route.gateway {
            attribute(body, RTA_GATEWAY, &gateway.octets());
        }
        attribute(body, RTA_PREFSRC, &source.octets());
    })
}

fn message(kind: u16, flags: u16, body: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut bytes = vec![0; 16];
    body(&mut bytes);
    // The longest message above has less than 100 bytes.
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    bytes[..4].copy_from_slice(&length.to_ne_bytes());
    bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
    bytes[6..8].copy_from_slice(&(NLM_F_REQUEST | flags).to_ne_bytes());
    bytes
}

/// Writes a `struct ifinfomsg` that sets the given flags.
fn link_header(body: &mut Vec<u8>, index: u32, flags: u32) {
    body.extend([0; 4]);
    body.extend(index.to_ne_bytes());
    body.extend(flags.to_ne_bytes());
    body.extend(flags.to_ne_bytes());
}

fn attribute(body: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
    body.extend(length.to_ne_bytes());
    body.extend(kind.to_ne_bytes());
    body.extend(value);
    body.resize(body.len().next_multiple_of(4), 0);
}

/// Parses the bytes of one receive call, which hold zero or more messages. Unknown messages are
/// skipped, and parsing stops at the first incomplete one.
#[must_use]
pub fn parse(mut bytes: &[u8]) -> Vec<Event> {
    let mut events = Vec::new();
    while let Some((kind, body, rest)) = next_message(bytes) {
        events.extend(match kind {
            NLMSG_DONE => Some(Event::Done),
            NLMSG_ERROR => number(body, 0).map(|errno| Event::Result(-errno.cast_signed())),
            RTM_NEWLINK => link(body).map(Event::Link),
            RTM_DELLINK => number(body, 4).map(Event::Gone),
            _ => None,
        });
        bytes = rest;
    }
    events
}

fn next_message(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let length = usize::try_from(number(bytes, 0)?).ok()?;
    let kind = u16::from_ne_bytes(*bytes.get(4..)?.first_chunk()?);
    let body = bytes.get(16..length)?;
    Some((kind, body, bytes.get(length.checked_next_multiple_of(4)?..).unwrap_or_default()))
}

fn link(body: &[u8]) -> Option<Link> {
    let hardware_kind = u16::from_ne_bytes(*body.get(2..)?.first_chunk()?);
    let flags = number(body, 8)?;
    let mut link = Link {
        index: number(body, 4)?,
        name: String::new(),
        hardware: None,
        flags,
        software: false,
    };
    for (kind, value) in attributes(body.get(16..)?) {
        match kind {
            IFLA_IFNAME => {
                let name = value.strip_suffix(&[0]).unwrap_or(value);
                link.name = String::from_utf8_lossy(name).into_owned();
            }
            IFLA_ADDRESS if hardware_kind == ARPHRD_ETHER && flags & IFF_LOOPBACK == 0 => {
                link.hardware = value.try_into().ok();
            }
            IFLA_LINKINFO => {
                link.software = attributes(value).any(|(kind, _)| kind == IFLA_INFO_KIND);
            }
            _ => (),
        }
    }
    Some(link)
}

/// Returns the type and value of each attribute, up to the first incomplete one.
fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16::from_ne_bytes(*bytes.first_chunk()?));
        let kind = u16::from_ne_bytes(*bytes.get(2..)?.first_chunk()?) & !TYPE_FLAGS;
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use super::{
        ARPHRD_ETHER, Change, Event, IFF_UP, IFLA_ADDRESS, IFLA_IFNAME, IFLA_INFO_KIND,
        IFLA_LINKINFO, Link, NLMSG_DONE, NLMSG_ERROR, RTM_NEWLINK, address, attribute, attributes,
        link_header, message, parse, route,
    };
    use crate::lease::Route;
    use proptest::prelude::*;
    use std::net::Ipv4Addr;
    use std::time::Duration;

    fn new_link(kind: Option<&[u8]>) -> Vec<u8> {
        message(RTM_NEWLINK, 0, |body| {
            link_header(body, 7, IFF_UP);
            body[18..20].copy_from_slice(&ARPHRD_ETHER.to_ne_bytes());
            attribute(body, IFLA_IFNAME, b"eth0\0");
            attribute(body, IFLA_ADDRESS, &[2, 0, 0, 0, 0, 1]);
            if let Some(kind) = kind {
                let mut nested = Vec::new();
                attribute(&mut nested, IFLA_INFO_KIND, kind);
                attribute(body, IFLA_LINKINFO | 0x8000, &nested);
            }
        })
    }

    fn eth0(software: bool) -> Event {
        let hardware = Some([2, 0, 0, 0, 0, 1]);
        Event::Link(Link { index: 7, name: "eth0".into(), hardware, flags: IFF_UP, software })
    }

    #[test]
    fn several_messages_in_one_packet_are_read_in_order() {
        let mut bytes = new_link(None);
        bytes.extend(new_link(Some(b"veth\0")));
        bytes.extend(message(NLMSG_ERROR, 0, |body| body.extend((-17_i32).to_ne_bytes())));
        bytes.extend(message(99, 0, |_| ()));
        bytes.extend(message(NLMSG_DONE, 0, |_| ()));
        let expected = [eth0(false), eth0(true), Event::Result(17), Event::Done];
        assert_eq!(parse(&bytes), expected);
        bytes.truncate(bytes.len() - 1);
        assert_eq!(parse(&bytes), expected[..3]);
    }

    #[test]
    fn an_address_carries_its_remaining_time_and_broadcast() {
        let ours = (Ipv4Addr::new(10, 0, 2, 15), 24);
        let bytes = address(Change::Put, 7, ours, Some(Duration::from_mins(1)));
        let all: Vec<_> = attributes(&bytes[24..]).collect();
        assert_eq!(all[2], (4, &[10, 0, 2, 255][..]));
        assert_eq!(all[3].1[..4], 60_u32.to_ne_bytes());
        let host = address(Change::Put, 7, (ours.0, 32), None);
        let all: Vec<_> = attributes(&host[24..]).collect();
        assert_eq!((all.len(), &all[2].1[..4]), (3, &[255; 4][..]));
    }

    #[test]
    fn a_default_route_has_no_destination_attribute() {
        let default = Route {
            destination: Ipv4Addr::UNSPECIFIED,
            prefix: 0,
            gateway: Some(Ipv4Addr::new(10, 0, 2, 2)),
        };
        let bytes = route(Change::Put, 7, &default, Ipv4Addr::new(10, 0, 2, 15), true);
        let kinds: Vec<u16> = attributes(&bytes[28..]).map(|(kind, _)| kind).collect();
        assert_eq!(kinds, [4, 5, 7]);
        assert_eq!(bytes[24..28], 4_u32.to_ne_bytes());
    }

    proptest! {
        #[test]
        fn each_event_takes_at_least_a_header_of_bytes(bytes: Vec<u8>) {
            prop_assert!(parse(&bytes).len() <= bytes.len() / 16);
        }

        #[test]
        fn a_message_after_a_changed_message_is_still_found(at in 4_usize..64, value: u8) {
            let mut bytes = new_link(Some(b"veth\0"));
            bytes[at] = value;
            bytes.extend(new_link(None));
            // The length is in the first four bytes, so the second message is always found.
            let events = parse(&bytes);
            prop_assert_eq!(events.last(), Some(&eth0(false)));
        }
    }
}
