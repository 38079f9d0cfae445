//! Who listens on the node, through proc(5)'s `/proc/net` of the host's network (`hostNetwork: true`).

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::{Context, Result};

use crate::node;

/// State 0A is TCP's LISTEN (`include/net/tcp_states.h`); UDP sockets without a peer are in 07.
const LISTEN: u8 = 0x0a;
const UNCONNECTED: u8 = 0x07;

#[derive(Debug, PartialEq, Eq)]
struct Socket {
    local: SocketAddr,
    state: u8,
    inode: u64,
}

/// `PROTOCOL ADDRESS NAME`, sorted, each once; packet and raw sockets too, since they take from the network.
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
    // In both the inode is the last column that matters: the ninth of `packet`, the tenth of `raw`.
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

/// Ports that the kernel picked differ on each boot (`ip_local_port_range`).
fn address(local: SocketAddr) -> String {
    match local.port() {
        32768..=60999 => {
            format!("{}:*", SocketAddr::new(local.ip(), 0).to_string().trim_end_matches(":0"))
        }
        _ => local.to_string(),
    }
}

/// The node's own addresses, one a line: those of sockets that could be asked from inside.
pub(crate) fn addresses() -> Result<String> {
    let trie = fs::read_to_string("/proc/net/fib_trie").context("reading /proc/net/fib_trie")?;
    let mut found: Vec<String> = local_addresses(&trie).iter().map(Ipv4Addr::to_string).collect();
    // Not there where IPv6 is switched off.
    let table = fs::read_to_string("/proc/net/if_inet6").unwrap_or_default();
    // Link-local addresses need a scope to be asked at; sockets bound to them answer on `::` as well.
    found.extend(
        inet6(&table).iter().filter(|ip| !ip.is_unicast_link_local()).map(|ip| format!("[{ip}]")),
    );
    found.sort();
    found.dedup();
    Ok(node::text(&found))
}

/// An address line of the trie is followed by a line that says what it is: `/32 host LOCAL`.
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
        .with_context(|| format!("reading {file}"))?;
    Ok(text.lines().skip(1).filter_map(parse).collect())
}

/// One line of `/proc/net/tcp` and its like: addresses in hexadecimal 32-bit words of this machine's order.
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
        // A protocol that the kernel does not have.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).with_context(|| format!("reading {file}")),
    };
    let number = |line: &str| line.split_ascii_whitespace().nth(index)?.parse().ok();
    Ok(text.lines().skip(1).filter_map(number).collect())
}

/// Socket's inode → name of a process that has it.
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
    fn both_families_are_read() {
        let line = "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 42 1";
        assert_eq!(
            parse(line),
            Some(Socket { local: "127.0.0.1:8080".parse().unwrap(), state: LISTEN, inode: 42 })
        );
        let one = "00000000000000000000000001000000";
        assert_eq!(parse_ip(one), Some(IpAddr::V6(Ipv6Addr::LOCALHOST)));
    }

    #[test]
    fn a_port_that_the_kernel_picked_is_not_named() {
        assert_eq!(address("127.0.0.1:40000".parse().unwrap()), "127.0.0.1:*");
        assert_eq!(address("[::1]:40000".parse().unwrap()), "[::1]:*");
        assert_eq!(address("[::]:8080".parse().unwrap()), "[::]:8080");
    }

    #[test]
    fn only_the_nodes_own_addresses_are_taken() {
        let trie = "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 0.0.0.0\n        /0 universe UNICAST\n     \
                    |-- 10.0.2.15\n        /32 host LOCAL\n     |-- 10.0.2.255\n        /32 link BROADCAST\n";
        assert_eq!(local_addresses(trie), [Ipv4Addr::new(10, 0, 2, 15)]);
    }

    proptest! {
        #[test]
        fn any_text_is_taken_without_a_panic(text: String) {
            let _ = (parse(&text), parse_ip(&text), inode(&text), local_addresses(&text), inet6(&text));
        }
    }
}
