//! Requests: bytes → [`Head`], as a pure function (RFC 9112 sections 2 to 7).
//!
//! Strict where two readers could disagree about what a request is: line ends are CRLF and nothing
//! else, a field is never folded, a body's length is stated once. What is refused here closes the
//! connection, because nobody can say where the next request would begin.
//!
//! The result depends on the bytes alone, never on how they were cut into packets: a decision is
//! made at a line's end or at the limit, and more bytes never change it.

pub mod body;
mod fields;
mod host;
mod target;
#[cfg(test)]
mod tests;

pub use fields::{Fields, Name, is_token};
pub use host::normalized as normalized_host;
pub use target::Target;

use crate::request::body::Framing;
use crate::status::Status;

/// Most header fields of a request; more are a 431. Browsers send about 20.
pub const MAX_FIELDS: usize = 100;

/// What a request wants. Method names are case-sensitive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// The content.
    Get,
    /// The header of the content's answer.
    Head,
    /// What is allowed.
    Options,
    /// Registered by RFC 9110 or 5789, but nothing for immutable content.
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
    /// What it is about.
    pub target: Target<'a>,
    /// The header fields.
    pub fields: Fields<'a>,
    /// Whether the client will take another answer on this connection: HTTP/1.1, and not asked to
    /// close.
    pub persistent: bool,
    /// The body that follows.
    pub framing: Framing,
}

impl<'a> Head<'a> {
    /// The host that is asked for: the target's, else the field's (RFC 9112 section 3.2.2).
    #[must_use]
    pub fn host(&self) -> &'a [u8] {
        match self.target {
            Target::Path { authority: Some(authority), .. } => authority,
            _ => self.fields.first(Name::Host).unwrap_or_default(),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    /// HTTP/1.0.
    One,
    /// HTTP/1.1, and what later minor versions promise to be compatible with.
    OneOne,
}

/// Reads a request's head from the beginning of `input`; also returns its length.
///
/// `None` means that more bytes are needed. A head is at most `limit` bytes long.
/// One empty line before it is skipped (RFC 9112 section 2.2).
pub fn parse(input: &[u8], limit: usize) -> Result<Option<(Head<'_>, usize)>, Status> {
    let mut lines = Lines { input, limit, position: 0 };
    let Some(mut line) = lines.next(Status::UriTooLong)? else { return Ok(None) };
    if line.is_empty() {
        let Some(second) = lines.next(Status::UriTooLong)? else { return Ok(None) };
        line = second;
    }
    let (method, target, version) = request_line(line)?;
    let Some(fields) = header(&mut lines)? else { return Ok(None) };
    let recent = version == Version::OneOne;
    host::check(&fields, recent)?;
    let framing = fields.framing(recent)?;
    let persistent = recent && !fields.list(Name::Connection).any(is_close);
    Ok(Some((Head { line, method, target, fields, persistent, framing }, lines.position)))
}

fn is_close(option: &[u8]) -> bool {
    option.eq_ignore_ascii_case(b"close")
}

/// Whole lines of a head, within its limit.
struct Lines<'a> {
    input: &'a [u8],
    limit: usize,
    position: usize,
}

impl<'a> Lines<'a> {
    /// The next line without its CRLF; `None` when its end has not come yet.
    ///
    /// Also checks what holds for every line: its only control characters are tabs and the CRLF at
    /// its end. What is 0x80 and above (`obs-text`) is let through.
    fn next(&mut self, too_long: Status) -> Result<Option<&'a [u8]>, Status> {
        let end = self.input.len().min(self.limit);
        let start = self.position;
        let mut at = start;
        loop {
            at += control(&self.input[at..end]);
            match self.input[at..end] {
                [b'\t', ..] => at += 1,
                [b'\r', b'\n', ..] => {
                    self.position = at + 2;
                    return Ok(Some(&self.input[start..at]));
                }
                [] | [b'\r'] if end == self.limit => return Err(too_long),
                [] | [b'\r'] => return Ok(None),
                _ => return Err(Status::BadRequest),
            }
        }
    }
}

/// Where the first control character is, eight bytes at a time; the length if there is none.
fn control(bytes: &[u8]) -> usize {
    const ONES: u64 = u64::from_le_bytes([1; 8]);
    const HIGHS: u64 = ONES << 7;
    let (words, rest) = bytes.as_chunks::<8>();
    for (index, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        // A borrow can only mark a byte above one that is marked rightly, and the lowest counts.
        let below_blank = word.wrapping_sub(ONES * 0x20) & !word & HIGHS;
        let delete = word ^ (ONES * 0x7f);
        let is_delete = delete.wrapping_sub(ONES) & !delete & HIGHS;
        let marks = below_blank | is_delete;
        if marks != 0 {
            return index * 8 + (marks.trailing_zeros() / 8) as usize;
        }
    }
    let found = rest.iter().position(|byte| *byte < b' ' || *byte == 0x7f);
    bytes.len() - rest.len() + found.unwrap_or(rest.len())
}

/// `METHOD SP TARGET SP HTTP/1.1`, with exactly these two blanks.
fn request_line(line: &[u8]) -> Result<(Method, Target<'_>, Version), Status> {
    let mut words = line.split(|byte| *byte == b' ');
    let (Some(method), Some(target), Some(version), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(Status::BadRequest);
    };
    let name = method;
    let method = self::method(method)?;
    let version = self::version(version)?;
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

fn version(text: &[u8]) -> Result<Version, Status> {
    match text {
        b"HTTP/1.0" => Ok(Version::One),
        [b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'1'..=b'9'] => Ok(Version::OneOne),
        [b'H', b'T', b'T', b'P', b'/', b'0'..=b'9', b'.', b'0'..=b'9'] => {
            Err(Status::VersionNotSupported)
        }
        _ => Err(Status::BadRequest),
    }
}

/// The field lines up to the empty one, each checked.
fn header<'a>(lines: &mut Lines<'a>) -> Result<Option<Fields<'a>>, Status> {
    let start = lines.position;
    let mut fields = Fields::new();
    for _ in 0..=MAX_FIELDS {
        let end = lines.position;
        match lines.next(Status::FieldsTooLarge)? {
            None => return Ok(None),
            Some([]) => return Ok(Some(fields.with_lines(&lines.input[start..end]))),
            Some(line) => fields.add(line)?,
        }
    }
    Err(Status::FieldsTooLarge)
}
