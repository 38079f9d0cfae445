//! The listening sockets of the node, from `/proc/net` (proc(5)) of the host's network
//! (`hostNetwork: true`).

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::{Context, Result};

use crate::node;

/// TCP's LISTEN (`include/net/tcp_states.h`), and the state of UDP sockets without a peer.
const LISTEN: u8 = 0x0a;
const UNCONNECTED: u8 = 0x07;

#[derive(Debug, PartialEq, Eq)]
struct Socket {
    local: SocketAddr,
    state: u8,
    inode: u64,
}

/// Lists `PROTOCOL ADDRESS NAME`, sorted and without duplicates; packet and raw sockets are included,
/// because they receive from the network too.
pub(crate) fn list() -> Result<String> {
    let owners = owners()?;
    let owner = |inode: u64| owners.get(&inode).map_or("?", String::as_str);
    let mut lines = Vec::new();
    for (protocol, file, state) in [
        ("tcp", "tcp", LISTEN),
        ("tcp", "tcp6", LISTEN),
        ("udp", "udp", UNCONNECTED),
        ("udp", "udp6", UNCONNECTED),
    ] {
        for socket in read(file)?.iter().filter(|socket| socket.state == state) {
            lines.push(format!("{protocol} {} {}", address(socket.local), owner(socket.inode)));
        }
    }
    // The inode is the ninth column of `packet` and the tenth of `raw`.
    for inode in column("packet", 8)? {
        lines.push(format!("packet {}", owner(inode)));
    }
    for inode in column("raw", 9)?.into_iter().chain(column("raw6", 9)?) {
        lines.push(format!("raw {}", owner(inode)));
    }
    lines.sort();
    lines.dedup();
    Ok(node::text(&lines))
}

/// Formats an address; ports that the kernel chose (`ip_local_port_range`) differ on each boot and
/// become `*`.
fn address(local: SocketAddr) -> String {
    match local.port() {
        32768..=60999 => {
            format!("{}:*", SocketAddr::new(local.ip(), 0).to_string().trim_end_matches(":0"))
        }
        _ => local.to_string(),
    }
}

/// Lists the node's own addresses, one per line, that a program on the node can connect to.
pub(crate) fn addresses() -> Result<String> {
    let trie =
        fs::read_to_string("/proc/net/fib_trie").context("cannot read /proc/net/fib_trie")?;
    let mut found: Vec<String> = local_addresses(&trie).iter().map(Ipv4Addr::to_string).collect();
    // The file is missing if IPv6 is switched off.
    let table = fs::read_to_string("/proc/net/if_inet6").unwrap_or_default();
    // A connection to a link-local address needs a scope; sockets bound to `::` answer on the others too.
    found.extend(
        inet6(&table).iter().filter(|ip| !ip.is_unicast_link_local()).map(|ip| format!("[{ip}]")),
    );
    found.sort();
    found.dedup();
    Ok(node::text(&found))
}

/// Finds the local addresses in the trie: each address line is followed by a line with its type, such as
/// `/32 host LOCAL`.
fn local_addresses(trie: &str) -> Vec<Ipv4Addr> {
    let mut last: Option<Ipv4Addr> = None;
    let mut found = Vec::new();
    for line in trie.lines() {
        if let Some((_, address)) = line.split_once("|-- ") {
            last = address.trim().parse().ok();
        } else if line.contains("/32 host LOCAL") {
            found.extend(last);
        }
    }
    found
}

fn inet6(table: &str) -> Vec<Ipv6Addr> {
    let hex = |line: &str| u128::from_str_radix(line.split_ascii_whitespace().next()?, 16).ok();
    table.lines().filter_map(hex).map(Ipv6Addr::from).collect()
}

fn read(file: &str) -> Result<Vec<Socket>> {
    let text = fs::read_to_string(format!("/proc/net/{file}"))
        .with_context(|| format!("cannot read /proc/net/{file}"))?;
    Ok(text.lines().skip(1).filter_map(parse).collect())
}

/// Parses one line of `/proc/net/tcp` and similar files, where addresses are hexadecimal 32-bit words in
/// the machine's byte order.
fn parse(line: &str) -> Option<Socket> {
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    let (ip, port) = words.get(1)?.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let state = u8::from_str_radix(words.get(3)?, 16).ok()?;
    let inode = words.get(9)?.parse().ok()?;
    Some(Socket { local: SocketAddr::new(parse_ip(ip)?, port), state, inode })
}

fn parse_ip(hex: &str) -> Option<IpAddr> {
    let word = |at: usize| u32::from_str_radix(hex.get(at..at + 8)?, 16).ok().map(u32::to_ne_bytes);
    match hex.len() {
        8 => Some(Ipv4Addr::from(word(0)?).into()),
        32 => {
            let bytes = [word(0)?, word(8)?, word(16)?, word(24)?].concat();
            Some(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?).into())
        }
        _ => None,
    }
}

fn column(file: &str, index: usize) -> Result<Vec<u64>> {
    let text = match fs::read_to_string(format!("/proc/net/{file}")) {
        Ok(text) => text,
        // The file is missing if the kernel lacks the protocol.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).with_context(|| format!("cannot read /proc/net/{file}")),
    };
    let number = |line: &str| line.split_ascii_whitespace().nth(index)?.parse().ok();
    Ok(text.lines().skip(1).filter_map(number).collect())
}

/// Maps a socket's inode to the name of a process that holds it.
fn owners() -> Result<BTreeMap<u64, String>> {
    let mut owners = BTreeMap::new();
    for process in node::all_processes()? {
        // The process may have ended.
        let Ok(descriptors) = fs::read_dir(format!("/proc/{}/fd", process.pid)) else { continue };
        for descriptor in descriptors.flatten() {
            if let Some(inode) =
                fs::read_link(descriptor.path()).ok().as_deref().and_then(|l| inode(l.to_str()?))
            {
                owners.insert(inode, process.name.clone());
            }
        }
    }
    Ok(owners)
}

fn inode(link: &str) -> Option<u64> {
    link.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn addresses_of_both_families_are_parsed() {
        let line = "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 42 1";
        assert_eq!(
            parse(line),
            Some(Socket { local: "127.0.0.1:8080".parse().unwrap(), state: LISTEN, inode: 42 })
        );
        let one = "00000000000000000000000001000000";
        assert_eq!(parse_ip(one), Some(IpAddr::V6(Ipv6Addr::LOCALHOST)));
    }

    #[test]
    fn a_port_that_the_kernel_chose_is_not_shown() {
        assert_eq!(address("127.0.0.1:40000".parse().unwrap()), "127.0.0.1:*");
        assert_eq!(address("[::1]:40000".parse().unwrap()), "[::1]:*");
        assert_eq!(address("[::]:8080".parse().unwrap()), "[::]:8080");
    }

    #[test]
    fn only_local_addresses_are_listed() {
        let trie = "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 0.0.0.0\n        /0 universe UNICAST\n     \
                    |-- 10.0.2.15\n        /32 host LOCAL\n     |-- 10.0.2.255\n        /32 link BROADCAST\n";
        assert_eq!(local_addresses(trie), [Ipv4Addr::new(10, 0, 2, 15)]);
    }

    proptest! {
        #[test]
        fn a_line_of_the_kernel_is_parsed_back(ip: [u8; 4], port: u16, state: u8, number: u64) {
            let word = u32::from_ne_bytes(ip);
            let line = format!("0: {word:08X}:{port:04X} 0:0 {state:02X} 0:0 0:0 0 0 0 {number} 1");
            let local = SocketAddr::new(Ipv4Addr::from(ip).into(), port);
            prop_assert_eq!(parse(&line), Some(Socket { local, state, inode: number }));
        }

        #[test]
        fn an_ipv6_address_of_the_kernel_is_parsed_back(bytes: [u8; 16]) {
            let word = |at: usize| u32::from_ne_bytes(bytes[at..at + 4].try_into().unwrap());
            let hex = format!("{:08X}{:08X}{:08X}{:08X}", word(0), word(4), word(8), word(12));
            prop_assert_eq!(parse_ip(&hex), Some(Ipv6Addr::from(bytes).into()));
        }

        #[test]
        fn a_link_names_a_socket_only_in_the_kernels_form(number: u64, text in "[^0-9]*") {
            prop_assert_eq!(inode(&format!("socket:[{number}]")), Some(number));
            prop_assert_eq!(inode(&text), None);
        }

        #[test]
        fn every_listed_address_stands_in_the_text(text in "[-|0-9./ hostLOCAL\n]*") {
            for address in local_addresses(&text) {
                prop_assert!(text.contains(&address.to_string()));
            }
            prop_assert!(inet6(&text).len() <= text.lines().count());
        }
    }
}
