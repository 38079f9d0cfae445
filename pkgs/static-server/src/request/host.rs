//! The `Host` field (RFC 9112 section 3.2, RFC 3986 section 3.2).

use super::{Fields, Name};
use crate::status::Status;

/// Checks that HTTP/1.1 has exactly one host, and HTTP/1.0 at most one.
pub(super) fn check(fields: &Fields<'_>, required: bool) -> Result<(), Status> {
    match fields.first(Name::Host) {
        _ if fields.is_repeated(Name::Host) => Err(Status::BadRequest),
        None if !required => Ok(()),
        Some(host) if is_host(host) => Ok(()),
        _ => Err(Status::BadRequest),
    }
}

/// Returns a host name in the form for comparison: without port and final dot, in lower case.
#[must_use]
pub fn normalized(host: &[u8]) -> Vec<u8> {
    let name = match host.iter().position(|byte| *byte == b']') {
        Some(bracket) => &host[..=bracket],
        None => host.split(|byte| *byte == b':').next().unwrap_or_default(),
    };
    name.strip_suffix(b".").unwrap_or(name).to_ascii_lowercase()
}

/// True for `uri-host [ ":" port ]`. The host may be empty, because a target may have no authority.
pub(super) fn is_host(text: &[u8]) -> bool {
    let end_of_name = match text.iter().position(|byte| *byte == b']') {
        Some(bracket) => bracket + 1,
        None => text.iter().position(|byte| *byte == b':').unwrap_or(text.len()),
    };
    let (name, port) = text.split_at(end_of_name);
    let port_is_good = match port {
        [] => true,
        [b':', digits @ ..] => digits.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    port_is_good && (is_literal(name) || is_name(name))
}

/// True for `[` IPv6 address `]`. Only the characters of the address are checked.
fn is_literal(text: &[u8]) -> bool {
    let inside = text.strip_prefix(b"[").and_then(|text| text.strip_suffix(b"]"));
    inside.is_some_and(|inside| {
        !inside.is_empty()
            && inside.iter().all(|byte| byte.is_ascii_hexdigit() || b":.".contains(byte))
    })
}

/// True for a `reg-name`, or a dotted address.
fn is_name(text: &[u8]) -> bool {
    text.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=".contains(byte))
}
