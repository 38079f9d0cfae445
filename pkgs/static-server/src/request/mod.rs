//! Requests: bytes → [`Head`], as a pure function (RFC 9112 sections 2 to 7).
//!
//! The parser is strict wherever two readers could understand a request differently. A refused
//! request closes the connection, because the start of the next request is unknown.
//!
//! The result depends on the bytes alone and not on how they were cut into packets: more bytes
//! never change a decision.

mod fields;
mod host;
mod target;
#[cfg(test)]
mod tests;

pub use fields::{Fields, Name};
pub use host::normalized as normalized_host;
pub use target::Target;

use kiln_server::http::body::Body;
use kiln_server::http::line::{BadLine, Lines, RequestLine, Version};
use kiln_server::http::syntax::is_token;

use crate::status::Status;

/// The most header fields of a request; more are answered with 431. Browsers send about 20.
pub const FIELDS_MAX: usize = 100;

/// The method of a request. Names are case-sensitive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// The content.
    Get,
    /// The head of the answer to GET.
    Head,
    /// The list of supported methods.
    Options,
    /// A registered method (RFC 9110 or 5789) that immutable content does not support.
    NotAllowed,
    /// Any other token.
    Unknown,
}

/// A request without its body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head<'a> {
    /// The request line as it was sent.
    pub line: &'a [u8],
    /// The method.
    pub method: Method,
    /// The target.
    pub target: Target<'a>,
    /// The header fields.
    pub fields: Fields<'a>,
    /// True if another request may follow on this connection: HTTP/1.1 without `close`.
    pub persistent: bool,
    /// The body that follows.
    pub body: Body,
}

impl<'a> Head<'a> {
    /// Returns the requested host: the target's, otherwise the field's (RFC 9112 section 3.2.2).
    #[must_use]
    pub fn host(&self) -> &'a [u8] {
        match self.target {
            Target::Path { authority: Some(authority), .. } => authority,
            _ => self.fields.first(Name::Host).unwrap_or_default(),
        }
    }
}

/// Parses a request's head at the beginning of `input`, and returns it with its length.
///
/// `None` means that more bytes are needed. A head has at most `limit` bytes. One empty line before
/// it is skipped (RFC 9112 section 2.2).
pub fn parse(input: &[u8], limit: usize) -> Result<Option<(Head<'_>, usize)>, Status> {
    let mut lines = Lines::new(input, limit);
    let Some(mut line) = next(&mut lines, Status::UriTooLong)? else { return Ok(None) };
    if line.is_empty() {
        let Some(second) = next(&mut lines, Status::UriTooLong)? else { return Ok(None) };
        line = second;
    }
    let (method, target, version) = request_line(line)?;
    let Some(fields) = header(input, &mut lines)? else { return Ok(None) };
    let is_http10 = version == Version::Http10;
    host::check(&fields, !is_http10)?;
    let body = fields.body(is_http10)?;
    let persistent = !is_http10 && !fields.list(Name::Connection).any(is_close);
    Ok(Some((Head { line, method, target, fields, persistent, body }, lines.position())))
}

fn is_close(option: &[u8]) -> bool {
    option.eq_ignore_ascii_case(b"close")
}

/// Returns the next line; `too_long` is the status for a head above its limit.
fn next<'a>(lines: &mut Lines<'a>, too_long: Status) -> Result<Option<&'a [u8]>, Status> {
    lines.read().map_err(|bad| match bad {
        BadLine::Malformed => Status::BadRequest,
        BadLine::TooLong => too_long,
    })
}

fn request_line(line: &[u8]) -> Result<(Method, Target<'_>, Version), Status> {
    let RequestLine { method: name, target, version } =
        RequestLine::parse(line).ok_or(Status::BadRequest)?;
    let method = method(name)?;
    if version == Version::Other {
        return Err(Status::VersionNotSupported);
    }
    Ok((method, Target::parse(target, name)?, version))
}

fn method(name: &[u8]) -> Result<Method, Status> {
    match name {
        b"GET" => Ok(Method::Get),
        b"HEAD" => Ok(Method::Head),
        b"OPTIONS" => Ok(Method::Options),
        b"POST" | b"PUT" | b"DELETE" | b"PATCH" | b"TRACE" | b"CONNECT" => Ok(Method::NotAllowed),
        _ if is_token(name) => Ok(Method::Unknown),
        _ => Err(Status::BadRequest),
    }
}

/// Returns the checked field lines up to the empty line.
fn header<'a>(input: &'a [u8], lines: &mut Lines<'a>) -> Result<Option<Fields<'a>>, Status> {
    let start = lines.position();
    let mut fields = Fields::new();
    for _ in 0..=FIELDS_MAX {
        let end = lines.position();
        match next(lines, Status::FieldsTooLarge)? {
            None => return Ok(None),
            Some([]) => return Ok(Some(fields.with_lines(&input[start..end]))),
            Some(line) => fields.add(line)?,
        }
    }
    Err(Status::FieldsTooLarge)
}
