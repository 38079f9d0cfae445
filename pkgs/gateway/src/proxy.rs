//! The PROXY protocol, versions 1 and 2: the client's address behind another proxy.
//!
//! Specified in haproxy's `doc/proxy-protocol.txt`. The configuration
//! decides which peers send a header, and the gateway never guesses: such a peer is refused if the
//! header is missing.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::config::ProxyVersion;

/// The first bytes of version 2. No other protocol begins with them.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

/// The most bytes of a version 1 line, with CR and LF.
const LINE_BYTES_MAX: usize = 107;

/// The most bytes after a version 2 header: addresses and TLVs. Proxies send a few hundred.
const V2_BYTES_MAX: usize = 4096;

/// Bytes of a version 2 header.
const HEADER: usize = 16;
const PP2_TYPE_AUTHORITY: u8 = 2;

/// A parsed header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Bytes of the header.
    pub length: usize,
    /// Client and destination; `None` for a connection of the proxy itself (LOCAL), and if they are
    /// not TCP addresses.
    pub addresses: Option<(SocketAddr, SocketAddr)>,
}

/// The bytes are not the beginning of a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed;

/// Parses a header of either version; `None` while it is incomplete.
pub fn parse(bytes: &[u8]) -> Result<Option<Header>, Malformed> {
    let begins = |with: &[u8]| bytes.iter().zip(with).all(|(one, other)| one == other);
    if begins(b"PROXY ") {
        line(bytes)
    } else if begins(&SIGNATURE) {
        binary(bytes)
    } else {
        Err(Malformed)
    }
}

fn line(bytes: &[u8]) -> Result<Option<Header>, Malformed> {
    let Some(end) = bytes.iter().take(LINE_BYTES_MAX).position(|byte| *byte == b'\n') else {
        return if bytes.len() < LINE_BYTES_MAX { Ok(None) } else { Err(Malformed) };
    };
    let text = bytes[..end].strip_suffix(b"\r").ok_or(Malformed)?;
    let text = std::str::from_utf8(text).map_err(|_| Malformed)?;
    let mut words = text.split(' ').skip(1);
    let addresses = match words.next() {
        Some("UNKNOWN") => None,
        Some(family @ ("TCP4" | "TCP6")) => Some(pair(words, family == "TCP4").ok_or(Malformed)?),
        _ => return Err(Malformed),
    };
    Ok(Some(Header { length: end + 1, addresses }))
}

fn pair<'a>(
    mut words: impl Iterator<Item = &'a str>,
    four: bool,
) -> Option<(SocketAddr, SocketAddr)> {
    let mut address = || words.next()?.parse().ok().filter(|ip: &IpAddr| ip.is_ipv4() == four);
    let (from, to) = (address()?, address()?);
    let mut port = || {
        let word = words.next()?;
        let plain = word.bytes().all(|byte| byte.is_ascii_digit())
            && (word == "0" || !word.starts_with('0'));
        plain.then(|| word.parse().ok())?
    };
    let (from, to) = (SocketAddr::new(from, port()?), SocketAddr::new(to, port()?));
    words.next().is_none().then_some((from, to))
}

fn binary(bytes: &[u8]) -> Result<Option<Header>, Malformed> {
    let command = bytes
        .get(12)
        .map_or(Ok(0x20), |byte| matches!(byte, 0x20 | 0x21).then_some(*byte).ok_or(Malformed))?;
    let Some(header) = bytes.first_chunk::<HEADER>() else { return Ok(None) };
    let length = usize::from(u16::from_be_bytes([header[14], header[15]]));
    if length > V2_BYTES_MAX {
        return Err(Malformed);
    }
    let Some(body) = bytes.get(HEADER..HEADER + length) else { return Ok(None) };
    let addresses = if command == 0x20 { None } else { of_family(header[13], body)? };
    Ok(Some(Header { length: HEADER + length, addresses }))
}

fn of_family(family: u8, body: &[u8]) -> Result<Option<(SocketAddr, SocketAddr)>, Malformed> {
    let (from, to, ports): (IpAddr, IpAddr, &[u8]) = match family {
        0x11 => {
            let (from, rest) = body.split_first_chunk::<4>().ok_or(Malformed)?;
            let (to, rest) = rest.split_first_chunk::<4>().ok_or(Malformed)?;
            (Ipv4Addr::from(*from).into(), Ipv4Addr::from(*to).into(), rest)
        }
        0x21 => {
            let (from, rest) = body.split_first_chunk::<16>().ok_or(Malformed)?;
            let (to, rest) = rest.split_first_chunk::<16>().ok_or(Malformed)?;
            (Ipv6Addr::from(*from).into(), Ipv6Addr::from(*to).into(), rest)
        }
        // Unspecified, datagrams and Unix sockets: valid, but without TCP addresses.
        0x00 | 0x12 | 0x22 | 0x31 | 0x32 => return Ok(None),
        _ => return Err(Malformed),
    };
    let [a, b, c, d] = *ports.first_chunk::<4>().ok_or(Malformed)?;
    let (from_port, to_port) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
    Ok(Some((SocketAddr::new(from, from_port), SocketAddr::new(to, to_port))))
}

/// Returns the header for a backend. `from` is the client's address, `to` the address that the client
/// connected to.
///
/// `name` is the server name that the client asked for; version 2 has a TLV for it.
#[must_use]
pub fn header(
    version: ProxyVersion,
    from: SocketAddr,
    to: SocketAddr,
    name: Option<&str>,
) -> Vec<u8> {
    let (from, to) = one_family(canonical(from), canonical(to));
    match version {
        ProxyVersion::V1 => {
            let family = if from.is_ipv4() { "TCP4" } else { "TCP6" };
            let (a, b, c, d) = (from.ip(), to.ip(), from.port(), to.port());
            format!("PROXY {family} {a} {b} {c} {d}\r\n").into_bytes()
        }
        ProxyVersion::V2 => v2(from, to, name),
    }
}

/// Returns the header for a connection that the gateway makes for itself, such as a check.
#[must_use]
pub fn local(version: ProxyVersion) -> Vec<u8> {
    match version {
        ProxyVersion::V1 => b"PROXY UNKNOWN\r\n".to_vec(),
        ProxyVersion::V2 => [&SIGNATURE[..], &[0x20, 0, 0, 0]].concat(),
    }
}

fn v2(from: SocketAddr, to: SocketAddr, name: Option<&str>) -> Vec<u8> {
    let mut body = Vec::with_capacity(64);
    for address in [from, to] {
        match address.ip() {
            IpAddr::V4(ip) => body.extend(ip.octets()),
            IpAddr::V6(ip) => body.extend(ip.octets()),
        }
    }
    body.extend(from.port().to_be_bytes());
    body.extend(to.port().to_be_bytes());
    // A normalised name has at most 253 bytes.
    if let Some((name, length)) = name.and_then(|name| Some((name, u8::try_from(name.len()).ok()?)))
    {
        body.extend([PP2_TYPE_AUTHORITY, 0, length]);
        body.extend(name.bytes());
    }
    let family = if from.is_ipv4() { 0x11 } else { 0x21 };
    let [high, low] = u16::try_from(body.len()).unwrap_or(u16::MAX).to_be_bytes();
    [&SIGNATURE[..], &[0x21, family, high, low], &body].concat()
}

/// Returns both addresses in one family, as a header must have them. If they differ, both become
/// IPv6.
fn one_family(from: SocketAddr, to: SocketAddr) -> (SocketAddr, SocketAddr) {
    let wide = |address: SocketAddr| match address.ip() {
        IpAddr::V4(ip) => SocketAddr::new(ip.to_ipv6_mapped().into(), address.port()),
        IpAddr::V6(_) => address,
    };
    if from.is_ipv4() == to.is_ipv4() { (from, to) } else { (wide(from), wide(to)) }
}

/// Returns an address without scope and flow, and an IPv4 address in IPv6 form as IPv4.
#[must_use]
pub fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod tests {
    use super::{Header, Malformed, SIGNATURE, header, local, parse};
    use crate::config::ProxyVersion::{V1, V2};
    use proptest::prelude::*;
    use std::net::SocketAddr;

    fn check(text: &str, expected: Result<Option<(usize, bool)>, Malformed>) {
        let got = parse(text.as_bytes());
        assert_eq!(got.map(|h| h.map(|h| (h.length, h.addresses.is_some()))), expected, "{text:?}");
    }

    #[test]
    fn version_1_is_parsed_strictly() {
        check("PROXY TCP4 1.2.3.4 5.6.7.8 9 10\r\nGET", Ok(Some((33, true))));
        check("PROXY TCP6 ::1 ::2 9 10\r\n", Ok(Some((25, true))));
        check("PROXY UNKNOWN\r\n", Ok(Some((15, false))));
        check("PROXY UNKNOWN ff:: ff:: 1 2\r\n", Ok(Some((29, false))));
        check("PROXY TCP4 1.2.3.4", Ok(None));
        check("PRO", Ok(None));
        for bad in [
            "GET / HTTP/1.1\r\n",
            "PROXY\r\n",
            "PROXY TCP4 1.2.3.4 5.6.7.8 9\r\n",
            "PROXY TCP4 1.2.3.4 5.6.7.8 9 10\n",
            "PROXY TCP4 1.2.3.4 5.6.7.8 9 10 11\r\n",
            "PROXY TCP4 1.2.3.4 5.6.7.8 09 10\r\n",
            "PROXY TCP4 1.2.3.4 5.6.7.8 +9 10\r\n",
            "PROXY TCP4 1.2.3.4 5.6.7.8 9 65536\r\n",
            "PROXY TCP4 ::1 ::2 9 10\r\n",
            "PROXY UDP4 1.2.3.4 5.6.7.8 9 10\r\n",
            "PROXY  TCP4 1.2.3.4 5.6.7.8 9 10\r\n",
        ] {
            check(bad, Err(Malformed));
        }
        check(&format!("PROXY TCP4 {}", "1".repeat(100)), Err(Malformed));
    }

    #[test]
    fn a_written_header_is_read_back() {
        for (from, to) in
            [("1.2.3.4:5", "6.7.8.9:10"), ("[::1]:5", "[::2]:6"), ("1.2.3.4:5", "[::2]:6")]
        {
            let (from, to): (SocketAddr, SocketAddr) = (from.parse().unwrap(), to.parse().unwrap());
            for version in [V1, V2] {
                let bytes = header(version, from, to, Some("a.test"));
                let Header { length, addresses } = parse(&bytes).unwrap().unwrap();
                assert_eq!(length, bytes.len());
                let (read, _) = addresses.unwrap();
                assert_eq!(super::canonical(read), from);
                for cut in 0..bytes.len() {
                    assert_eq!(parse(&bytes[..cut]), Ok(None), "cut at {cut}");
                }
            }
        }
        let bytes =
            header(V2, "1.2.3.4:5".parse().unwrap(), "6.7.8.9:10".parse().unwrap(), Some("a.test"));
        assert!(bytes.ends_with(b"\x02\x00\x06a.test"));
        assert_eq!(parse(&local(V1)).unwrap().unwrap().addresses, None);
        assert_eq!(parse(&local(V2)).unwrap().unwrap().addresses, None);
    }

    #[test]
    fn an_invalid_version_2_header_is_refused() {
        let with = |tail: &[u8]| parse(&[&SIGNATURE[..], tail].concat());
        assert_eq!(with(&[0x11]), Err(Malformed), "version 1 in binary");
        assert_eq!(with(&[0x22, 0x11, 0, 0]), Err(Malformed), "an unknown command");
        assert_eq!(
            with(&[0x21, 0x11, 0, 4, 1, 2, 3, 4]),
            Err(Malformed),
            "too short for addresses"
        );
        assert_eq!(with(&[0x21, 0x99, 0, 0]), Err(Malformed), "an unknown family");
        assert_eq!(with(&[0x21, 0x11, 0xff, 0xff]), Err(Malformed), "too long");
        assert_eq!(with(&[0x21, 0x00, 0, 0]), Ok(Some(Header { length: 16, addresses: None })));
    }

    proptest! {
        #[test]
        fn more_bytes_never_change_a_decision(
            start in 0_usize..3, tail: Vec<u8>,
        ) {
            let start: &[u8] = [&b""[..], b"PROXY TCP4 ", &SIGNATURE][start];
            let bytes = [start, &tail].concat();
            let whole = parse(&bytes);
            for cut in 0..bytes.len() {
                let part = parse(&bytes[..cut]);
                prop_assert!(part == Ok(None) || part == whole);
            }
        }
    }
}
