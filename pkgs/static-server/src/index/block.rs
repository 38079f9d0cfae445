//! Header blocks, which many representations share, and which rules change.
//!
//! [`Prepared`](super::Prepared) describes the three parts of a block.

use std::io::Write as _;

use crate::index::Coding;
use crate::rules::{Change, changed};

/// A block with the offsets of its parts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Block {
    /// The whole block.
    pub bytes: Vec<u8>,
    /// The offset of the fields that only an answer with a body has.
    pub rest: u32,
    /// The offset of the fields that a 304 has too.
    pub shared: u32,
}

/// The values that a block is made from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Facts<'a> {
    /// 200 or 404.
    pub status: u16,
    /// `Content-Type`.
    pub media_type: &'a str,
    /// `Content-Encoding`; omitted for identity.
    pub coding: Coding,
    /// `Cache-Control`; empty for no field.
    pub cache_control: &'a str,
    /// True if the resource has other variants.
    pub varies: bool,
}

/// Fields that a 304 does not repeat, because they describe the bytes that the client already has
/// (RFC 9110 section 15.4.5), in lower case. A 304 has all other fields: a client must get a new
/// policy even if the bytes are the same, and permission to read the answer.
const WITH_BODY: [&[u8]; 5] = [
    b"content-type",
    b"content-encoding",
    b"accept-ranges",
    b"content-language",
    b"content-disposition",
];

/// Bytes reserved for a block; most need less.
const BLOCK: usize = 320;

/// Makes a block.
#[must_use]
pub fn make(facts: &Facts<'_>, changes: &[Change]) -> Block {
    let coding = if facts.coding == Coding::Identity { "" } else { facts.coding.name() };
    let all = [
        ("Content-Type", facts.media_type),
        ("Content-Encoding", coding),
        ("Accept-Ranges", if facts.status == 200 { "bytes" } else { "" }),
        ("Cache-Control", facts.cache_control),
        ("Vary", if facts.varies { "Accept-Encoding" } else { "" }),
    ];
    let there = all.iter().filter(|(_, value)| !value.is_empty());
    let fields: Vec<_> = there.map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect();
    render(facts.status, &fields, changes)
}

/// Renders the status line, and the fields after the changes.
#[must_use]
pub fn render(status: u16, fields: &[(&[u8], &[u8])], changes: &[Change]) -> Block {
    let reason = match status {
        200 => "OK",
        404 => "Not Found",
        _ => "",
    };
    let mut bytes = Vec::with_capacity(BLOCK);
    // Writing to a Vec cannot fail.
    let _ = write!(bytes, "HTTP/1.1 {status} {reason}\r\n");
    let rest = position(&bytes);
    let shared = if changes.is_empty() {
        two_parts(&mut bytes, fields)
    } else {
        let all = changed(fields, changes);
        let all: Vec<_> = all.iter().map(|(name, value)| (&name[..], &value[..])).collect();
        two_parts(&mut bytes, &all)
    };
    Block { bytes, rest, shared }
}

/// Appends the fields that only an answer with a body has, then the others; returns the offset of
/// the others.
fn two_parts(bytes: &mut Vec<u8>, fields: &[(&[u8], &[u8])]) -> u32 {
    for (name, value) in fields.iter().filter(|(name, _)| !is_shared(name)) {
        push(bytes, name, value);
    }
    let shared = position(bytes);
    for (name, value) in fields.iter().filter(|(name, _)| is_shared(name)) {
        push(bytes, name, value);
    }
    shared
}

/// Returns the fields of a block without its status line.
pub fn fields(rest: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    rest.split(|byte| *byte == b'\n').filter_map(|line| {
        let colon = line.iter().position(|byte| *byte == b':')?;
        Some((&line[..colon], line[colon + 1..].trim_ascii()))
    })
}

fn position(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX)
}

fn push(bytes: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    for part in [name, b": ", value, b"\r\n"] {
        bytes.extend_from_slice(part);
    }
}

fn is_shared(name: &[u8]) -> bool {
    !WITH_BODY.iter().any(|known| known.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::{Facts, make};
    use crate::index::Coding;
    use crate::rules::Change;

    const FACTS: Facts<'_> = Facts {
        status: 200,
        media_type: "text/css; charset=utf-8",
        coding: Coding::Gzip,
        cache_control: "no-cache",
        varies: true,
    };

    fn set(name: &str, value: &str) -> Change {
        Change::Set { name: name.into(), value: value.into() }
    }

    fn check(changes: &[Change], parts: [&str; 3]) {
        let block = make(&FACTS, changes);
        let (rest, shared) = (block.rest as usize, block.shared as usize);
        let found = [&block.bytes[..rest], &block.bytes[rest..shared], &block.bytes[shared..]];
        let found = found.map(|part| String::from_utf8_lossy(part).replace("\r\n", "|"));
        assert_eq!(found, parts);
    }

    const STATUS: &str = "HTTP/1.1 200 OK|";

    #[test]
    fn a_block_has_its_three_parts() {
        check(
            &[],
            [
                STATUS,
                "Content-Type: text/css; charset=utf-8|Content-Encoding: gzip|Accept-Ranges: bytes|",
                "Cache-Control: no-cache|Vary: Accept-Encoding|",
            ],
        );
    }

    #[test]
    fn changes_set_replace_remove_and_add_to_vary() {
        let remove = Change::Remove { name: b"content-type".to_vec() };
        let changes =
            [set("X-A", "b"), set("cache-control", "no-store"), remove, set("vary", "Cookie")];
        check(
            &changes,
            [
                STATUS,
                "Content-Encoding: gzip|Accept-Ranges: bytes|",
                "Cache-Control: no-store|Vary: Accept-Encoding, Cookie|X-A: b|",
            ],
        );
    }
}
