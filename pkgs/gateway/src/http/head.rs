//! A request's head: whom it is for, and where its body ends.

use std::ops::Range;

use super::body::Body;
use super::headers::{Marks, Request};
use super::lines::{self, Field, Scan, is_token};
use super::{MOST_FIELDS, MOST_OF_HEAD, Refusal};
use crate::name::{self, Authority};

/// What the gateway must know of a request.
#[expect(clippy::struct_excessive_bools, reason = "facts that are independent of each other")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// Bytes of the head, the empty line included.
    pub length: usize,
    /// Whom it is for.
    pub host: Authority,
    /// HEAD: its answer has no body.
    pub is_head: bool,
    /// HTTP/1.0: the connection ends after the answer unless both sides say otherwise.
    pub is_old: bool,
    /// What follows the head.
    pub body: Body,
    /// No request follows on this connection.
    pub close: bool,
    /// It asks for another protocol.
    pub upgrade: bool,
    /// Path and query of the target; of an absolute target without scheme and authority.
    pub path: Range<usize>,
    /// Lines that a header rule may replace.
    pub marks: Marks,
}

impl Head {
    /// Returns the part of the head that header rules need; `bytes` begin with the head.
    #[must_use]
    pub fn request<'a>(&'a self, bytes: &'a [u8]) -> Request<'a> {
        let Self { length, host, upgrade, marks, .. } = self;
        Request { bytes: &bytes[..*length], host, upgrade: *upgrade, marks }
    }
}

/// Looks at the bytes of a request so far; `None` while its head is not whole.
pub fn parse(scan: &mut Scan, bytes: &[u8]) -> Result<Option<Head>, Refusal> {
    if bytes.first().is_some_and(|byte| !is_token(&[*byte])) {
        return Err(Refusal::BadRequest("this is not an HTTP request"));
    }
    let end = scan.end(bytes).map_err(|_| Refusal::BadRequest("a line must end with CR LF"))?;
    match end {
        Some(length) if length <= MOST_OF_HEAD => head(&bytes[..length]).map(Some),
        None if bytes.len() <= MOST_OF_HEAD => Ok(None),
        _ => Err(Refusal::TooLarge),
    }
}

/// What the fields say together.
#[expect(clippy::struct_excessive_bools, reason = "facts that are independent of each other")]
#[derive(Default)]
struct Said {
    host: Option<Authority>,
    length: Option<u64>,
    chunked: bool,
    close: bool,
    keep_alive: bool,
    upgrade: bool,
    marks: Marks,
}

fn head(bytes: &[u8]) -> Result<Head, Refusal> {
    let first = bytes.windows(2).position(|pair| pair == b"\r\n").unwrap_or(bytes.len());
    let line = request_line(&bytes[..first])?;
    let mut said = Said::default();
    for (count, field) in lines::fields(bytes, first + 2).enumerate() {
        let field = field.ok_or(Refusal::BadRequest("a header field is malformed"))?;
        if count >= MOST_FIELDS {
            return Err(Refusal::TooLarge);
        }
        said.take(&field)?;
    }
    let host = said.host.take().ok_or(Refusal::BadRequest("the Host field is missing"))?;
    if line.authority.is_some_and(|authority| authority != host) {
        return Err(Refusal::BadRequest("the target's authority is not the Host field's"));
    }
    Ok(Head {
        length: bytes.len(),
        host,
        is_head: line.is_head,
        is_old: line.is_old,
        body: said.body(line.is_old)?,
        close: said.close || (line.is_old && !said.keep_alive),
        upgrade: said.upgrade,
        path: line.path,
        marks: said.marks,
    })
}

struct RequestLine {
    is_head: bool,
    is_old: bool,
    path: Range<usize>,
    authority: Option<Authority>,
}

fn request_line(line: &[u8]) -> Result<RequestLine, Refusal> {
    let bad = Refusal::BadRequest("the request line is malformed");
    let mut words = line.split(|byte| *byte == b' ');
    let (Some(method), Some(target), Some(version), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(bad);
    };
    let is_old = match version {
        b"HTTP/1.1" => false,
        b"HTTP/1.0" => true,
        [b'H', b'T', b'T', b'P', b'/', b'0'..=b'9', b'.', b'0'..=b'9'] => {
            return Err(Refusal::Version);
        }
        _ => return Err(bad),
    };
    if !is_token(method) || target.iter().any(|byte| *byte < b' ' || *byte == 0x7f) {
        return Err(bad);
    }
    if method == b"CONNECT" {
        return Err(Refusal::Connect);
    }
    let start = method.len() + 1;
    let (path, authority) = target_parts(method, target).ok_or(bad)?;
    let path = start + path.start..start + path.end;
    Ok(RequestLine { is_head: method == b"HEAD", is_old, path, authority })
}

/// Path and authority of a target (RFC 9112 section 3.2).
fn target_parts(method: &[u8], target: &[u8]) -> Option<(Range<usize>, Option<Authority>)> {
    if target.first() == Some(&b'/') {
        return Some((0..target.len(), None));
    }
    if target == b"*" {
        return (method == b"OPTIONS").then_some((0..0, None));
    }
    let colon = target.windows(3).position(|three| three == b"://")?;
    let scheme = &target[..colon];
    if !scheme.eq_ignore_ascii_case(b"http") && !scheme.eq_ignore_ascii_case(b"https") {
        return None;
    }
    let rest = &target[colon + 3..];
    let end = rest.iter().position(|byte| b"/?#".contains(byte)).unwrap_or(rest.len());
    let authority = name::authority(&rest[..end])?;
    Some((colon + 3 + end..target.len(), Some(authority)))
}

impl Said {
    fn take(&mut self, field: &Field<'_>) -> Result<(), Refusal> {
        let name = field.name.to_ascii_lowercase();
        self.marks.note(&name, field);
        match name.as_slice() {
            b"host" => {
                let host = name::authority(field.value);
                let host = host.ok_or(Refusal::BadRequest("the Host field is invalid"))?;
                if self.host.replace(host).is_some() {
                    return Err(Refusal::BadRequest("there is more than one Host field"));
                }
            }
            b"content-length" => {
                let length = content_length(field.value);
                let length = length.ok_or(Refusal::BadRequest("Content-Length is not a number"))?;
                if self.length.replace(length).is_some() {
                    return Err(Refusal::BadRequest("there is more than one Content-Length"));
                }
            }
            b"transfer-encoding" => {
                if self.chunked || !field.value.eq_ignore_ascii_case(b"chunked") {
                    return Err(Refusal::BadRequest("Transfer-Encoding is not just `chunked`"));
                }
                self.chunked = true;
            }
            b"connection" => self.connection(field),
            b"upgrade" => {
                if field.members().any(|member| member.to_ascii_lowercase().starts_with(b"h2c")) {
                    return Err(Refusal::BadRequest("HTTP/2 without TLS is not served here"));
                }
                self.upgrade = true;
            }
            b"http2-settings" => {
                return Err(Refusal::BadRequest("HTTP/2 without TLS is not served here"));
            }
            _ => {}
        }
        Ok(())
    }

    fn connection(&mut self, field: &Field<'_>) {
        for member in field.members() {
            self.close |= member.eq_ignore_ascii_case(b"close");
            self.keep_alive |= member.eq_ignore_ascii_case(b"keep-alive");
        }
    }

    /// Framing that two readers could take for two different things is refused (RFC 9112
    /// section 6.3; RFC 9112 section 6.1 for HTTP/1.0).
    fn body(&self, is_old: bool) -> Result<Body, Refusal> {
        match (self.chunked, self.length) {
            (true, Some(_)) => {
                Err(Refusal::BadRequest("both Transfer-Encoding and Content-Length are there"))
            }
            (true, None) if is_old => Err(Refusal::BadRequest("HTTP/1.0 has no Transfer-Encoding")),
            (true, None) => Ok(Body::chunked()),
            (false, length) => Ok(Body::Length(length.unwrap_or(0))),
        }
    }
}

/// Digits, and nothing else: no sign, no list.
pub(super) fn content_length(value: &[u8]) -> Option<u64> {
    let digits = (1..=18).contains(&value.len()) && value.iter().all(u8::is_ascii_digit);
    if digits { std::str::from_utf8(value).ok()?.parse().ok() } else { None }
}
