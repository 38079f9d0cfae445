//! The networking that PID 1 does itself: the loopback interface (netdevice(7)), and a wait for a
//! default route (rtnetlink(7), proc(5)).

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use kiln_base::time::timespec;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

/// `RTMGRP_IPV4_ROUTE | RTMGRP_IPV6_ROUTE` (linux/rtnetlink.h): messages about changed routes.
const ROUTE_GROUPS: u32 = 0x40 | 0x400;

/// The kernel's routing tables.
const TABLES: [&str; 2] = ["/proc/net/route", "/proc/net/ipv6_route"];

/// `IFF_UP | IFF_RUNNING`. The kernel then adds `127.0.0.1` and `::1` itself.
#[allow(clippy::cast_possible_truncation, reason = "both flags fit, ifreq wants a short")]
const UP: i16 = (libc::IFF_UP | libc::IFF_RUNNING) as i16;

/// Brings `lo` up.
pub fn loopback_up() -> Result<()> {
    let flags = SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, flags, None)
        .context("cannot make a socket")?;
    // SAFETY: ifreq is plain data, for which zero is valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_flags = UP;
    // SAFETY: `request` is a valid ifreq with a terminated name and the flags set.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) };
    if result == 0 {
        return Ok(());
    }
    Err(io::Error::last_os_error()).context("cannot bring lo up")
}

/// `RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR`: messages about changed addresses.
const ADDRESS_GROUPS: u32 = 0x10 | 0x100;

/// Returns a socket that becomes readable when an address of the node changes.
pub fn watch_addresses() -> Result<OwnedFd> {
    listen(ADDRESS_GROUPS)
}

fn listen(groups: u32) -> Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    // Protocol 0 is NETLINK_ROUTE.
    let netlink = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None)
        .context("cannot make a netlink socket")?;
    rustix::net::bind(&netlink, &SocketAddrNetlink::new(0, groups))
        .context("cannot bind the netlink socket")?;
    Ok(netlink)
}

/// Reads and drops everything that waits on a descriptor that never blocks.
pub fn drain(fd: &OwnedFd) {
    let mut buffer = [0_u8; 4096];
    // ENOBUFS says that messages were lost, which a reader that drops them need not know.
    while matches!(rustix::io::read(fd, &mut buffer), Ok(1..) | Err(Errno::NOBUFS)) {}
}

/// Waits until there is a default route of IPv4 or IPv6. Returns false if none appears in time.
pub fn wait_for_default_route(time: Duration) -> Result<bool> {
    // Listening starts before the first check, so that no route is missed.
    let socket = listen(ROUTE_GROUPS)?;
    let end = Instant::now() + time;
    loop {
        let tables = TABLES.map(|table| fs::read_to_string(table).unwrap_or_default());
        if has_default_route(&tables[0], &tables[1]) {
            return Ok(true);
        }
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(false);
        }
        let _ = poll(&mut [PollFd::new(&socket, PollFlags::IN)], Some(&timespec(left)));
        drain(&socket);
    }
}

/// True if one of the tables has a default route. Their rows are `IFACE DESTINATION GATEWAY FLAGS …
/// MASK` below a heading, and `DESTINATION PREFIX … IFACE` without a heading, with numbers in
/// hexadecimal. The second table always has a default route on `lo`, which rejects packets.
fn has_default_route(ipv4: &str, ipv6: &str) -> bool {
    let words = |line: &str| line.split_ascii_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let is_zero = |word: &str| word.bytes().all(|byte| byte == b'0');
    let ipv4 = ipv4.lines().skip(1).map(words);
    let ipv6 = ipv6.lines().map(words);
    ipv4.into_iter().any(|row| row.len() > 7 && is_zero(&row[1]) && is_zero(&row[7]))
        || ipv6
            .into_iter()
            .any(|row| row.len() > 9 && is_zero(&row[0]) && is_zero(&row[1]) && row[9] != "lo")
}

#[cfg(test)]
mod tests {
    use super::has_default_route;

    const HEADING: &str =
        "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n";
    const ZERO: &str = "00000000000000000000000000000000";

    #[test]
    fn only_a_route_to_everywhere_is_a_default_route() {
        let near = "eth0\t0002000A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n";
        let out = "eth0\t00000000\t0202000A\t0003\t0\t0\t0\t00000000\t0\t0\t0\n";
        assert!(!has_default_route("", ""));
        assert!(!has_default_route(HEADING, ""));
        assert!(!has_default_route(&format!("{HEADING}{near}"), ""));
        assert!(has_default_route(&format!("{HEADING}{near}{out}"), ""));
    }

    #[test]
    fn the_rejecting_route_of_ipv6_does_not_count() {
        let row = |name: &str| {
            format!("{ZERO} 00 {ZERO} 00 {ZERO} ffffffff 00000001 00000000 00200200 {name:>8}\n")
        };
        assert!(!has_default_route("", &row("lo")));
        assert!(has_default_route("", &(row("lo") + &row("eth0"))));
    }
}
