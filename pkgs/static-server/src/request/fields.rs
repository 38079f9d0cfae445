//! Header fields: their syntax (RFC 9110 section 5, RFC 9112 section 5) and the length of a body
//! (RFC 9112 section 6).

use crate::status::Status;

/// Field lines that have passed [`check`], each with its CRLF.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    pub(super) const fn checked(lines: &'a [u8]) -> Self {
        Self(lines)
    }

    /// Values of all fields with this lower-case name, in order, without blanks around them.
    pub fn values(self, name: &'static str) -> impl Iterator<Item = &'a [u8]> {
        let lines = self.0.split(|byte| *byte == b'\n');
        lines.filter_map(move |line| {
            let (found, value) = split(line)?;
            found.eq_ignore_ascii_case(name.as_bytes()).then_some(value)
        })
    }

    /// Members of a comma-separated list, all fields of this name together, empty ones left out.
    ///
    /// Not for lists that may hold quoted strings.
    pub fn list(self, name: &'static str) -> impl Iterator<Item = &'a [u8]> {
        let members = self.values(name).flat_map(|value| value.split(|byte| *byte == b','));
        members.map(<[u8]>::trim_ascii).filter(|member| !member.is_empty())
    }

    /// Whether a body follows. Two statements about its length are refused, even equal ones:
    /// only a program that wants two readers to disagree sends them.
    pub(super) fn announce_body(self, chunked_allowed: bool) -> Result<bool, Status> {
        let mut lengths = self.values("content-length");
        let mut codings = self.values("transfer-encoding");
        match (lengths.next(), lengths.next(), codings.next(), codings.next()) {
            (None, None, None, None) => Ok(false),
            (Some(length), None, None, None) => Ok(content_length(length)? > 0),
            (None, None, Some(coding), None) if chunked_allowed => {
                let chunked = coding.eq_ignore_ascii_case(b"chunked");
                if chunked { Ok(true) } else { Err(Status::NotImplemented) }
            }
            _ => Err(Status::BadRequest),
        }
    }
}

/// Digits only: no sign, no blank, no list.
fn content_length(text: &[u8]) -> Result<u64, Status> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return Err(Status::BadRequest);
    }
    let digits = str::from_utf8(text).map_err(|_| Status::BadRequest)?;
    digits.parse().map_err(|_| Status::BadRequest)
}

/// Name and value of a line; the CR at its end counts as a blank.
fn split(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let colon = line.iter().position(|byte| *byte == b':')?;
    Some((&line[..colon], line[colon + 1..].trim_ascii()))
}

/// Checks one line without its CRLF. A folded line begins with a blank, which no name does; a
/// blank before the colon is not part of a name either.
pub(super) fn check(line: &[u8]) -> Result<(), Status> {
    let (name, _) = split(line).ok_or(Status::BadRequest)?;
    let value = &line[name.len() + 1..];
    if is_token(name) && value.iter().all(|byte| is_value(*byte)) {
        Ok(())
    } else {
        Err(Status::BadRequest)
    }
}

/// `field-vchar`, blank or tab; `obs-text` (0x80 and above) is let through.
const fn is_value(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}

/// `token` of RFC 9110 section 5.6.2.
pub(super) fn is_token(text: &[u8]) -> bool {
    let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    !text.is_empty() && text.iter().all(allowed)
}
