//! The addresses of the node's network interfaces (getifaddrs(3)).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ptr;

/// Returns the addresses of all interfaces that are up, except for loopback and link-local ones, in
/// the kernel's order. An error counts as no address.
#[must_use]
pub fn all() -> Vec<IpAddr> {
    let mut first = ptr::null_mut();
    // SAFETY: `first` is a valid place for the list.
    if unsafe { libc::getifaddrs(&raw mut first) } != 0 {
        return Vec::new();
    }
    let mut found = Vec::new();
    let mut entry = first;
    // SAFETY: each entry of the list is valid until it is freed, and the last one's next is null.
    while let Some(interface) = unsafe { entry.as_ref() } {
        entry = interface.ifa_next;
        let up = interface.ifa_flags & libc::IFF_UP.unsigned_abs() != 0;
        // SAFETY: the address is null, or valid for its family.
        found.extend(
            unsafe { address(interface.ifa_addr) }.filter(|address| up && is_of_node(*address)),
        );
    }
    // SAFETY: the list came from getifaddrs, and no entry is used any more.
    unsafe { libc::freeifaddrs(first) };
    found
}

/// Returns an address of IP.
///
/// # Safety
///
/// `address` is null, or points to an address as long as its family requires.
unsafe fn address(address: *const libc::sockaddr) -> Option<IpAddr> {
    // SAFETY: the caller's promise.
    let family = i32::from(unsafe { address.as_ref() }?.sa_family);
    match family {
        libc::AF_INET => {
            // SAFETY: an address of this family is a sockaddr_in.
            let ip = unsafe { address.cast::<libc::sockaddr_in>().read_unaligned() };
            Some(Ipv4Addr::from(u32::from_be(ip.sin_addr.s_addr)).into())
        }
        libc::AF_INET6 => {
            // SAFETY: an address of this family is a sockaddr_in6.
            let ip = unsafe { address.cast::<libc::sockaddr_in6>().read_unaligned() };
            Some(Ipv6Addr::from(ip.sin6_addr.s6_addr).into())
        }
        _ => None,
    }
}

/// True for an address by which other hosts can reach the node.
fn is_of_node(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => !address.is_loopback() && !address.is_link_local(),
        IpAddr::V6(address) => !address.is_loopback() && !address.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::{all, is_of_node};

    #[test]
    fn addresses_that_only_the_host_itself_reaches_are_left_out() {
        for address in ["127.0.0.1", "169.254.1.1", "::1", "fe80::1"] {
            assert!(!is_of_node(address.parse().unwrap()), "{address}");
        }
        assert!(is_of_node("192.0.2.1".parse().unwrap()));
        assert!(all().into_iter().all(is_of_node));
    }
}
