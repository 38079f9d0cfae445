//! Header rules: the changes that a route asks for in the heads of requests.
//!
//! This file has everything about a rule: its key in `[[route]]`, the client's lines that the rule
//! replaces, and the bytes that the backend gets. To add a rule, add its field to [`Rules`] and its key
//! to `KEYS`, note the client's lines in [`Marks::note`] and remove them in `Marks::dropped`, write the
//! new lines in [`Rules::forward`], whose first test lets unchanged heads pass, and describe the key in
//! `docs/gateway.md`. All rules are booleans.

use std::net::IpAddr;
use std::ops::Range;

use toml::de::{DeTable, DeValue};

use super::lines::Field;
use crate::name::Authority;

/// The header rules of a route.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rules {
    /// Sets X-Forwarded-For, X-Forwarded-Proto and Forwarded.
    forwarded: bool,
    /// Asks for one request per connection.
    close: bool,
}

/// Selects the field of a rule.
type Select = fn(&mut Rules) -> &mut bool;

/// The keys of `[[route]]` that are header rules, and their fields.
const KEYS: [(&str, Select); 2] =
    [("forwarded", |rules| &mut rules.forwarded), ("close", |rules| &mut rules.close)];

/// The properties of a client that rules depend on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Client {
    /// The client's address.
    pub address: IpAddr,
    /// True if the client is a trusted proxy, whose forwarding headers are passed on.
    pub trusted: bool,
}

/// Lines of a head that a rule may replace, as ranges of the head's bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Marks {
    /// Forwarding headers: X-Forwarded-* and Forwarded.
    forwarded: Vec<Range<usize>>,
    /// `Connection` lines that contain only `close` or `keep-alive`.
    persistence: Vec<Range<usize>>,
}

/// The head of a request, with the properties that rules depend on.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The head's bytes, with the empty line that ends it.
    pub bytes: &'a [u8],
    /// The host that the request is for.
    pub host: &'a Authority,
    /// True if the request asks for another protocol.
    pub upgrade: bool,
    /// Lines that a rule may replace.
    pub marks: &'a Marks,
}

impl Rules {
    /// Takes the keys of header rules out of a `[[route]]`.
    ///
    /// # Errors
    /// Returns the key and the place of the first value with a wrong type.
    pub fn take(table: &mut DeTable<'_>) -> Result<Self, (&'static str, Range<usize>)> {
        let mut rules = Self::default();
        for (key, field) in KEYS {
            let Some(value) = table.remove(key) else { continue };
            match value.get_ref() {
                DeValue::Boolean(value) => *field(&mut rules) = *value,
                _ => return Err((key, value.span())),
            }
        }
        Ok(rules)
    }

    /// Returns the keys of all header rules.
    pub fn keys() -> impl Iterator<Item = &'static str> {
        KEYS.iter().map(|(key, _)| *key)
    }

    /// Returns the key of the first rule that is on.
    #[must_use]
    pub fn first_key(mut self) -> Option<&'static str> {
        KEYS.iter().find(|(_, field)| *field(&mut self)).map(|(key, _)| *key)
    }

    /// True if every request gets a connection of its own.
    #[must_use]
    pub const fn is_one_request(self) -> bool {
        self.close
    }

    /// Appends the head to `out` as the backend gets it. With `close` the head asks the backend to
    /// close the connection after its response.
    pub fn forward(self, request: &Request<'_>, client: Client, close: bool, out: &mut Vec<u8>) {
        // `Connection: Upgrade` must stay, and an upgraded connection ends by itself.
        let close = close && !request.upgrade;
        let dropped = request.marks.dropped(!client.trusted, close);
        if dropped.is_empty() && !self.forwarded && !close {
            out.extend_from_slice(request.bytes);
            return;
        }
        let mut from = 0;
        for line in dropped {
            out.extend_from_slice(&request.bytes[from..line.start]);
            from = line.end;
        }
        // New lines go before the empty line.
        out.extend_from_slice(&request.bytes[from..request.bytes.len() - 2]);
        if self.forwarded {
            out.extend_from_slice(forwarded(request, client).as_bytes());
        }
        if close {
            out.extend_from_slice(b"Connection: close\r\n");
        }
        out.extend_from_slice(b"\r\n");
    }
}

impl Marks {
    /// Notes a line if a rule may replace it.
    pub fn note(&mut self, field: &Field<'_>) {
        let is_persistence = |member: &[u8]| {
            member.eq_ignore_ascii_case(b"close") || member.eq_ignore_ascii_case(b"keep-alive")
        };
        if is_forwarded(field.name) {
            self.forwarded.push(field.start..field.end);
        } else if field.is("connection") && field.members().all(is_persistence) {
            self.persistence.push(field.start..field.end);
        }
    }

    /// Returns the lines to drop, in order.
    fn dropped(&self, forwarded: bool, persistence: bool) -> Vec<Range<usize>> {
        let mut lines = Vec::new();
        if forwarded {
            lines.extend(self.forwarded.iter().cloned());
        }
        if persistence {
            lines.extend(self.persistence.iter().cloned());
        }
        lines.sort_by_key(|line| line.start);
        lines
    }
}

/// True if a field describes the client. `_` and `-` are equal here, because CGI does not distinguish
/// them.
fn is_forwarded(name: &[u8]) -> bool {
    const PREFIX: &[u8] = b"x-forwarded-";
    let same = |(ours, theirs): (&u8, &u8)| match theirs {
        b'_' => *ours == b'-',
        byte => *ours == byte.to_ascii_lowercase(),
    };
    let has_prefix = name.len() >= PREFIX.len() && PREFIX.iter().zip(name).all(same);
    has_prefix || name.eq_ignore_ascii_case(b"forwarded")
}

/// Returns the lines that describe the client: RFC 7239 section 4, and the older fields.
///
/// Lines with the same name form one list, in order, so a trusted proxy's elements come before the
/// gateway's.
fn forwarded(request: &Request<'_>, client: Client) -> String {
    let address = client.address.to_canonical();
    let node = match address {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("\"[{ip}]\""),
    };
    let mut lines = request.marks.forwarded.iter();
    let has_proto = lines.any(|line| is_named(&request.bytes[line.clone()], b"x-forwarded-proto"));
    let proto = if client.trusted && has_proto { "" } else { "X-Forwarded-Proto: http\r\n" };
    let host = request.host;
    format!(
        "X-Forwarded-For: {address}\r\n{proto}Forwarded: for={node};host=\"{host}\";proto=http\r\n"
    )
}

fn is_named(line: &[u8], name: &[u8]) -> bool {
    line.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name))
        && line.get(name.len()) == Some(&b':')
}
