//! `node-ip`: the addresses that the node reports, as addresses or prefixes.

use std::fmt;
use std::net::IpAddr;

use super::read::{Problems, Value};

/// An address or a prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeIp {
    net: IpAddr,
    /// The number of leading bits that count.
    bits: u8,
}

impl NodeIp {
    /// Parses `ADDRESS` or `ADDRESS/BITS`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (net, bits) =
            text.split_once('/').map_or((text, None), |(net, bits)| (net, Some(bits)));
        let net: IpAddr =
            net.parse().map_err(|_| format!("{text:?} is not an IP address or prefix"))?;
        let bits_max = if net.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            None => bits_max,
            Some(bits) => bits
                .parse()
                .ok()
                .filter(|bits| *bits <= bits_max)
                .ok_or_else(|| format!("{text:?} has an invalid prefix length"))?,
        };
        Ok(Self { net, bits })
    }

    /// True if this is one address.
    #[must_use]
    pub fn is_address(&self) -> bool {
        self.bits == if self.net.is_ipv4() { 32 } else { 128 }
    }

    /// True if the prefix has this address.
    #[must_use]
    pub fn has(&self, address: IpAddr) -> bool {
        let bits = u32::from(self.bits);
        match (self.net, address) {
            (IpAddr::V4(net), IpAddr::V4(address)) => {
                let other = u32::from(net) ^ u32::from(address);
                other.checked_shr(32 - bits).unwrap_or(0) == 0
            }
            (IpAddr::V6(net), IpAddr::V6(address)) => {
                let other = u128::from(net) ^ u128::from(address);
                other.checked_shr(128 - bits).unwrap_or(0) == 0
            }
            _ => false,
        }
    }
}

impl fmt::Display for NodeIp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.net)?;
        if self.is_address() { Ok(()) } else { write!(f, "/{}", self.bits) }
    }
}

/// Returns the first address for each family that one of the prefixes has, in the order of the
/// prefixes. The families have the order in which they are first named, because kubelet takes the
/// first address as the primary one.
#[must_use]
pub fn choose(wanted: &[NodeIp], addresses: &[IpAddr]) -> Vec<IpAddr> {
    let mut chosen: Vec<IpAddr> = Vec::new();
    for prefix in wanted {
        let found = addresses.iter().find(|address| prefix.has(**address));
        if let Some(found) = found
            && chosen.iter().all(|other| other.is_ipv4() != found.is_ipv4())
        {
            chosen.push(*found);
        }
    }
    chosen
}

/// Like [`choose`], but an address that was chosen before stays as long as the node has it, or has
/// no other one of its family: a lease that is renewed must not restart kubelet.
#[must_use]
pub fn keep(wanted: &[NodeIp], before: &[IpAddr], addresses: &[IpAddr]) -> Vec<IpAddr> {
    let allowed = |address: &IpAddr| wanted.iter().any(|prefix| prefix.has(*address));
    let mut chosen = choose(wanted, addresses);
    for old in before.iter().filter(|old| allowed(old)) {
        let same = chosen.iter().position(|new| new.is_ipv4() == old.is_ipv4());
        match same {
            Some(at) if addresses.contains(old) => chosen[at] = *old,
            Some(_) => {}
            None => chosen.push(*old),
        }
    }
    chosen
}

/// Reads `node-ip`.
#[must_use]
pub fn read(value: &Value<'_>, problems: &mut Problems) -> Vec<NodeIp> {
    let next = "write addresses or prefixes, such as \"192.0.2.0/24\"";
    value.parsed(problems, next, NodeIp::parse)
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use proptest::prelude::*;

    use super::{NodeIp, choose, keep};

    fn chosen(wanted: &[&str], addresses: &[&str]) -> Vec<String> {
        let wanted: Vec<_> = wanted.iter().map(|text| NodeIp::parse(text).unwrap()).collect();
        let addresses: Vec<IpAddr> = addresses.iter().map(|text| text.parse().unwrap()).collect();
        choose(&wanted, &addresses).iter().map(IpAddr::to_string).collect()
    }

    #[test]
    fn the_first_address_in_each_prefix_is_chosen_and_one_for_each_family() {
        let here = ["10.0.2.15", "192.0.2.7", "192.0.2.8", "fe80::1", "2001:db8::7"];
        assert_eq!(chosen(&["192.0.2.0/24"], &here), ["192.0.2.7"]);
        assert_eq!(chosen(&["192.0.2.8"], &here), ["192.0.2.8"]);
        assert_eq!(chosen(&["203.0.113.0/24", "10.0.0.0/8"], &here), ["10.0.2.15"]);
        assert_eq!(chosen(&["10.0.0.0/8", "192.0.2.0/24"], &here), ["10.0.2.15"]);
        assert_eq!(chosen(&["2001:db8::/64", "0.0.0.0/0"], &here), ["2001:db8::7", "10.0.2.15"]);
        assert!(chosen(&["203.0.113.0/24"], &here).is_empty());
        assert!(chosen(&[], &here).is_empty());
    }

    #[test]
    fn an_address_stays_until_the_node_has_another_one() {
        let wanted = [NodeIp::parse("192.0.2.0/24").unwrap(), NodeIp::parse("10.0.0.0/8").unwrap()];
        let list = |texts: &[&str]| {
            texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<IpAddr>>()
        };
        for (before, addresses, expected) in [
            (&[][..], &["10.0.2.15"][..], &["10.0.2.15"][..]),
            (&["10.0.2.15"], &[], &["10.0.2.15"]),
            (&["10.0.2.15"], &["10.0.2.15", "192.0.2.7"], &["10.0.2.15"]),
            (&["10.0.2.15"], &["192.0.2.7"], &["192.0.2.7"]),
            (&["203.0.113.1"], &[], &[]),
        ] {
            assert_eq!(keep(&wanted, &list(before), &list(addresses)), list(expected));
        }
    }

    #[test]
    fn invalid_prefixes_are_refused() {
        for text in
            ["", "a", "10.0.0.0/33", "10.0.0/8", "::/129", "10.0.0.0/", "10.0.0.0/-1", "1/2/3"]
        {
            assert!(NodeIp::parse(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_prefix_has_its_own_addresses(net: [u8; 16], low: [u8; 16], bits in 0_u8..=128) {
            let prefix = NodeIp { net: IpAddr::from(net), bits };
            let mask = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
            let inside = u128::from_be_bytes(net) & mask | u128::from_be_bytes(low) & !mask;
            prop_assert!(prefix.has(IpAddr::from(inside.to_be_bytes())));
            if bits > 0 {
                let outside = inside ^ 1 << (128 - u32::from(bits));
                prop_assert!(!prefix.has(IpAddr::from(outside.to_be_bytes())));
            }
            prop_assert_eq!(NodeIp::parse(&prefix.to_string()), Ok(prefix));
        }
    }
}
