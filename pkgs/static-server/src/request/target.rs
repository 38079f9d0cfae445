//! The request target (RFC 9112 section 3.2) and the path in it (RFC 3986 section 3.3).

use std::borrow::Cow;

use super::host::is_host;
use crate::status::Status;

/// The target of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target<'a> {
    /// A path on this server.
    Path {
        /// Percent-decoded once. Begins with a slash, and has no dot segment, no NUL and no encoded
        /// slash.
        path: Cow<'a, [u8]>,
        /// The part after the question mark.
        query: Option<&'a [u8]>,
        /// The host in an absolute target.
        authority: Option<&'a [u8]>,
    },
    /// The server as a whole (`OPTIONS *`).
    Server,
    /// Another server (`CONNECT`), never served.
    Authority,
}

impl<'a> Target<'a> {
    /// Parses a target; `method` decides which forms are allowed.
    pub(super) fn parse(text: &'a [u8], method: &[u8]) -> Result<Self, Status> {
        // Only visible ASCII, and no fragment, because clients do not send fragments.
        if !text.iter().all(|byte| byte.is_ascii_graphic() && *byte != b'#') {
            return Err(Status::BadRequest);
        }
        match (text, method) {
            (b"*", b"OPTIONS") => Ok(Self::Server),
            (_, b"CONNECT") => is_host(text).then_some(Self::Authority).ok_or(Status::BadRequest),
            ([b'/', ..], _) => Self::path(text, None),
            _ => Self::absolute(text, method),
        }
    }

    /// Parses `http://host/path`.
    fn absolute(text: &'a [u8], method: &[u8]) -> Result<Self, Status> {
        let after = after_scheme(text).ok_or(Status::BadRequest)?;
        let end = after.iter().position(|byte| b"/?".contains(byte)).unwrap_or(after.len());
        let (host, rest) = after.split_at(end);
        if host.is_empty() || !is_host(host) {
            return Err(Status::BadRequest);
        }
        match rest {
            [] if method == b"OPTIONS" => Ok(Self::Server),
            [] => Self::path(b"/", Some(host)),
            [b'?', query @ ..] => Ok(Self::Path {
                path: Cow::Borrowed(b"/"),
                query: Some(query),
                authority: Some(host),
            }),
            _ => Self::path(rest, Some(host)),
        }
    }

    fn path(text: &'a [u8], authority: Option<&'a [u8]>) -> Result<Self, Status> {
        let (path, query) = match text.iter().position(|byte| *byte == b'?') {
            Some(mark) => (&text[..mark], Some(&text[mark + 1..])),
            None => (text, None),
        };
        let path = decode(path).ok_or(Status::BadRequest)?;
        if path.split(|byte| *byte == b'/').any(|segment| segment == b"." || segment == b"..") {
            return Err(Status::BadRequest);
        }
        Ok(Self::Path { path, query, authority })
    }
}

fn after_scheme(text: &[u8]) -> Option<&[u8]> {
    ["http://", "https://"].iter().find_map(|scheme| {
        let (start, rest) = text.split_at_checked(scheme.len())?;
        start.eq_ignore_ascii_case(scheme.as_bytes()).then_some(rest)
    })
}

/// Percent-decodes once; `None` for a broken escape, a NUL, or an encoded slash.
fn decode(raw: &[u8]) -> Option<Cow<'_, [u8]>> {
    if !raw.contains(&b'%') {
        return Some(Cow::Borrowed(raw));
    }
    let mut decoded = Vec::with_capacity(raw.len());
    let mut bytes = raw.iter();
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => escaped(*bytes.next()?, *bytes.next()?)?,
            _ => *byte,
        });
    }
    Some(Cow::Owned(decoded))
}

/// Returns the byte that two hexadecimal digits stand for.
fn escaped(high: u8, low: u8) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let byte = u8::try_from(digit(high)? * 16 + digit(low)?).ok()?;
    (byte != 0 && byte != b'/').then_some(byte)
}
