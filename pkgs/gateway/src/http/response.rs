//! A response's head: its status, and the body that follows it (RFC 9112 section 6.3).

use kiln_server::http::body::Body;
use kiln_server::http::framing::content_length;

use super::HEAD_BYTES_MAX;
use super::lines::{self, Scan};

/// The properties of a response that the gateway needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// Bytes of the head, the empty line included.
    pub length: usize,
    /// 100 to 999.
    pub status: u16,
    /// The body that follows the head.
    pub body: Body,
    /// True if the backend closes the connection after the response.
    pub close: bool,
}

/// The backend does not speak HTTP/1, or its response could be understood in two ways.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadResponse;

/// Parses the bytes of a response that have arrived; `None` while the head is incomplete.
pub fn parse(scan: &mut Scan, bytes: &[u8], to_head: bool) -> Result<Option<Head>, BadResponse> {
    let begins = bytes.iter().zip(b"HTTP/1.").all(|(one, other)| one == other);
    let end = scan.end(bytes).map_err(|_| BadResponse)?;
    match end {
        _ if !begins => Err(BadResponse),
        Some(length) => head(&bytes[..length], to_head).map(Some).ok_or(BadResponse),
        None if bytes.len() <= HEAD_BYTES_MAX => Ok(None),
        None => Err(BadResponse),
    }
}

fn head(bytes: &[u8], to_head: bool) -> Option<Head> {
    let (line, fields) = lines::split(bytes)?;
    let (status, is_old) = status_line(line)?;
    let (mut length, mut chunked, mut coded) = (None, false, false);
    let (mut close, mut keep_alive) = (false, false);
    for field in fields {
        let field = field?;
        if field.is("content-length") {
            // Equal repetitions are accepted, unlike a request's: a response cannot smuggle a
            // request.
            let value = content_length(field.value)?;
            if length.replace(value).is_some_and(|before| before != value) {
                return None;
            }
        } else if field.is("transfer-encoding") {
            for coding in field.members() {
                if chunked {
                    return None;
                }
                chunked = coding.eq_ignore_ascii_case(b"chunked");
                coded = true;
            }
        } else if field.is("connection") {
            close |= field.members().any(|member| member.eq_ignore_ascii_case(b"close"));
            keep_alive |= field.members().any(|member| member.eq_ignore_ascii_case(b"keep-alive"));
        }
    }
    let has_no_body = to_head || status < 200 || status == 204 || status == 304;
    let body = match (has_no_body, coded, length) {
        (true, ..) => Body::NONE,
        (false, true, Some(_)) => return None,
        (false, true, None) if chunked => Body::chunked_response(),
        (false, _, None) => Body::UntilClose,
        (false, false, Some(length)) => Body::Length(length),
    };
    Some(Head { length: bytes.len(), status, body, close: close || (is_old && !keep_alive) })
}

/// Returns the status, and true for HTTP/1.0.
fn status_line(line: &[u8]) -> Option<(u16, bool)> {
    let (version, rest) = line.split_at_checked(8)?;
    let is_old = match version {
        b"HTTP/1.1" => false,
        b"HTTP/1.0" => true,
        _ => return None,
    };
    let [b' ', a @ b'1'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9', rest @ ..] = rest else {
        return None;
    };
    if !rest.is_empty() && rest[0] != b' ' {
        return None;
    }
    let digit = |byte: &u8| u16::from(byte - b'0');
    Some((digit(a) * 100 + digit(b) * 10 + digit(c), is_old))
}
