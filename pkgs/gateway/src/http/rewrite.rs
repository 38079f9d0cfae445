//! A request's head as the backend gets it: unchanged, but for what its route asks for.

use std::net::IpAddr;
use std::ops::Range;

use super::head::Head;

/// What is changed in a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Changes {
    /// The client is not believed who it says it is.
    pub drop_forwarded: bool,
    /// Who the client is, if the backend is to be told.
    pub set_forwarded: Option<IpAddr>,
    /// The backend is asked to end the connection after its answer.
    pub close: bool,
}

/// Appends the head to `out`; true if anything was changed.
pub fn forward(bytes: &[u8], head: &Head, changes: Changes, out: &mut Vec<u8>) -> bool {
    // `Connection: Upgrade` must stay, and an upgraded connection ends by itself.
    let close = changes.close && !head.upgrade;
    let mut dropped: Vec<Range<usize>> = Vec::new();
    if changes.drop_forwarded {
        dropped.extend(head.forwarded.iter().cloned());
    }
    if close {
        dropped.extend(head.persistence.iter().cloned());
    }
    if dropped.is_empty() && changes.set_forwarded.is_none() && !close {
        out.extend_from_slice(&bytes[..head.length]);
        return false;
    }
    dropped.sort_by_key(|line| line.start);
    let mut from = 0;
    for line in dropped {
        out.extend_from_slice(&bytes[from..line.start]);
        from = line.end;
    }
    // Up to the empty line, which follows what is added.
    out.extend_from_slice(&bytes[from..head.length - 2]);
    if let Some(client) = changes.set_forwarded {
        let has = |name: &[u8]| {
            !changes.drop_forwarded
                && head.forwarded.iter().any(|line| named(&bytes[line.clone()], name))
        };
        out.extend_from_slice(
            forwarded(client, &head.host.to_string(), has(b"x-forwarded-proto")).as_bytes(),
        );
    }
    if close {
        out.extend_from_slice(b"Connection: close\r\n");
    }
    out.extend_from_slice(b"\r\n");
    true
}

fn named(line: &[u8], name: &[u8]) -> bool {
    line.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name))
        && line.get(name.len()) == Some(&b':')
}

/// RFC 7239 section 4, and the older fields. Lines of one name make one list, in their order, so
/// what a trusted proxy said stands before what is said here.
fn forwarded(client: IpAddr, host: &str, has_proto: bool) -> String {
    let client = client.to_canonical();
    let node = match client {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("\"[{ip}]\""),
    };
    let proto = if has_proto { "" } else { "X-Forwarded-Proto: http\r\n" };
    format!(
        "X-Forwarded-For: {client}\r\n{proto}Forwarded: for={node};host=\"{host}\";proto=http\r\n"
    )
}
