//! A request's head: the host that it is for, and the body that follows it.

use std::ops::Range;

use kiln_server::http::body::Body;
use kiln_server::http::framing::Framing;
use kiln_server::http::line::{RequestLine, Version};
use kiln_server::http::syntax::is_token;

use super::headers::{Marks, Request};
use super::lines::{self, Field, Scan};
use super::{FIELDS_MAX, HEAD_BYTES_MAX, Refusal};
use crate::name::{self, Authority};

/// The properties of a request that the gateway needs.
#[expect(clippy::struct_excessive_bools, reason = "facts that are independent of each other")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// Bytes of the head, the empty line included.
    pub length: usize,
    /// The host that the request is for; empty for a request of HTTP/1.0 without a Host field.
    pub host: Authority,
    /// True if the method is HEAD: the response has no body.
    pub is_head: bool,
    /// True for HTTP/1.0: the connection ends after the response unless both sides want to keep it.
    pub is_old: bool,
    /// The body that follows the head.
    pub body: Body,
    /// True if no other request follows on this connection.
    pub close: bool,
    /// True if the request asks for another protocol.
    pub upgrade: bool,
    /// Path and query of the target, as a range of the head's bytes. The scheme and authority of an
    /// absolute target are left out.
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

/// Parses the bytes of a request that have arrived; `None` while the head is incomplete.
pub fn parse(scan: &mut Scan, bytes: &[u8]) -> Result<Option<Head>, Refusal> {
    if bytes.first().is_some_and(|byte| !is_token(&[*byte])) {
        return Err(Refusal::BadRequest("this is not an HTTP request"));
    }
    let end = scan.end(bytes).map_err(|_| Refusal::BadRequest("a line must end with CR LF"))?;
    match end {
        Some(length) if length <= HEAD_BYTES_MAX => head(&bytes[..length]).map(Some),
        None if bytes.len() <= HEAD_BYTES_MAX => Ok(None),
        _ => Err(Refusal::TooLarge),
    }
}

/// The facts from all fields together.
#[derive(Default)]
struct Facts<'a> {
    host: Option<Authority>,
    framing: Framing<'a>,
    close: bool,
    keep_alive: bool,
    upgrade: bool,
    marks: Marks,
}

const MALFORMED_LINE: Refusal = Refusal::BadRequest("the request line is malformed");

fn head(bytes: &[u8]) -> Result<Head, Refusal> {
    let (line, fields) = lines::split(bytes).ok_or(MALFORMED_LINE)?;
    let line = target(line)?;
    let mut facts = Facts::default();
    for (count, field) in fields.enumerate() {
        let field = field.ok_or(Refusal::BadRequest("a header field is malformed"))?;
        if count >= FIELDS_MAX {
            return Err(Refusal::TooLarge);
        }
        facts.take(&field)?;
    }
    // HTTP/1.0 has no Host field (RFC 9112 section 3.2), so only the default route fits.
    let given = line.authority.as_ref().map(|(authority, _)| authority.clone());
    let nameless = || Authority { host: String::new(), port: None };
    let old = line.is_old.then(|| given.unwrap_or_else(nameless));
    let host = facts.host.or(old).ok_or(Refusal::BadRequest("the Host field is missing"))?;
    if line.authority.is_some_and(|(authority, port)| !is_same(&authority, &host, port)) {
        return Err(Refusal::BadRequest("the target's authority differs from the Host field"));
    }
    let body = facts.framing.request_body(line.is_old);
    Ok(Head {
        length: bytes.len(),
        host,
        is_head: line.is_head,
        is_old: line.is_old,
        body: body.map_err(|bad| Refusal::BadRequest(bad.text()))?,
        close: facts.close || (line.is_old && !facts.keep_alive),
        upgrade: facts.upgrade,
        path: line.path,
        marks: facts.marks,
    })
}

/// The facts from the request line.
struct Target {
    is_head: bool,
    is_old: bool,
    path: Range<usize>,
    authority: Option<Absolute>,
}

/// The authority of an absolute target, and the default port of its scheme.
type Absolute = (Authority, u16);

/// True if two authorities are equal: a missing port is the default port of the scheme (RFC 9110
/// section 4.2.3).
fn is_same(one: &Authority, other: &Authority, port: u16) -> bool {
    one.host == other.host && one.port.unwrap_or(port) == other.port.unwrap_or(port)
}

fn target(line: &[u8]) -> Result<Target, Refusal> {
    let RequestLine { method, target, version } = RequestLine::parse(line).ok_or(MALFORMED_LINE)?;
    let is_old = match version {
        Version::Http11 => false,
        Version::Http10 => true,
        Version::Http1Later | Version::Other => return Err(Refusal::Version),
    };
    // A tab is the only control character that a line may have.
    if !is_token(method) || target.contains(&b'\t') {
        return Err(MALFORMED_LINE);
    }
    if method == b"CONNECT" {
        return Err(Refusal::Connect);
    }
    let start = method.len() + 1;
    let (path, authority) = target_parts(method, target).ok_or(MALFORMED_LINE)?;
    let path = start + path.start..start + path.end;
    Ok(Target { is_head: method == b"HEAD", is_old, path, authority })
}

/// Returns path and authority of a target (RFC 9112 section 3.2).
fn target_parts(method: &[u8], target: &[u8]) -> Option<(Range<usize>, Option<Absolute>)> {
    if target.first() == Some(&b'/') {
        return Some((0..target.len(), None));
    }
    if target == b"*" {
        return (method == b"OPTIONS").then_some((0..0, None));
    }
    let colon = target.windows(3).position(|three| three == b"://")?;
    let scheme = &target[..colon];
    let port = if scheme.eq_ignore_ascii_case(b"http") {
        80
    } else if scheme.eq_ignore_ascii_case(b"https") {
        443
    } else {
        return None;
    };
    let rest = &target[colon + 3..];
    let end = rest.iter().position(|byte| b"/?#".contains(byte)).unwrap_or(rest.len());
    let authority = name::authority(&rest[..end])?;
    Some((colon + 3 + end..target.len(), Some((authority, port))))
}

impl<'a> Facts<'a> {
    fn take(&mut self, field: &Field<'a>) -> Result<(), Refusal> {
        self.marks.note(field);
        if field.is("host") {
            let host = name::authority(field.value);
            let host = host.ok_or(Refusal::BadRequest("the Host field is invalid"))?;
            if self.host.replace(host).is_some() {
                return Err(Refusal::BadRequest("there is more than one Host field"));
            }
        } else if field.is("content-length") {
            let before = self.framing.length.replace(field.value);
            self.framing.length_is_repeated |= before.is_some();
        } else if field.is("transfer-encoding") {
            let before = self.framing.coding.replace(field.value);
            self.framing.coding_is_repeated |= before.is_some();
        } else if field.is("connection") {
            for member in field.members() {
                self.close |= member.eq_ignore_ascii_case(b"close");
                self.keep_alive |= member.eq_ignore_ascii_case(b"keep-alive");
            }
        } else if field.is("upgrade") {
            self.upgrade = true;
            if field.members().any(is_h2c) {
                return Err(HTTP2);
            }
        } else if field.is("http2-settings") {
            return Err(HTTP2);
        }
        Ok(())
    }
}

const HTTP2: Refusal = Refusal::BadRequest("HTTP/2 without TLS is not served here");

/// True for `h2c`, the protocol HTTP/2 without TLS.
fn is_h2c(member: &[u8]) -> bool {
    member.get(..3).is_some_and(|start| start.eq_ignore_ascii_case(b"h2c"))
}
