//! Lines of a head: where they end, the request line, and field lines (RFC 9112 sections 2 to 5).

use super::syntax::{first_control, is_token_byte};

/// The reason why a head is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadLine {
    /// A control character, or a bare CR or LF.
    Malformed,
    /// The head is longer than its limit.
    TooLong,
}

/// The lines of a head within its limit.
///
/// The result depends only on the bytes, not on their split into packets: a line is accepted or
/// refused at its end or at the limit, and more bytes never change that decision.
#[derive(Debug)]
pub struct Lines<'a> {
    input: &'a [u8],
    limit: usize,
    position: usize,
}

impl<'a> Lines<'a> {
    /// Starts at the beginning of `input`; the head may have at most `limit` bytes.
    #[inline]
    #[must_use]
    pub const fn new(input: &'a [u8], limit: usize) -> Self {
        Self { input, limit, position: 0 }
    }

    /// Returns the offset after the last line that was returned.
    #[inline]
    #[must_use]
    pub const fn position(&self) -> usize {
        self.position
    }

    /// Returns the next line without its CRLF, or `None` if its end has not arrived yet.
    ///
    /// A line has no control characters except tabs. Bytes above ASCII are accepted.
    #[inline]
    pub fn read(&mut self) -> Result<Option<&'a [u8]>, BadLine> {
        let end = self.input.len().min(self.limit);
        let start = self.position;
        let mut at = start;
        loop {
            at += first_control(&self.input[at..end]);
            match self.input[at..end] {
                [b'\t', ..] => at += 1,
                [b'\r', b'\n', ..] => {
                    self.position = at + 2;
                    return Ok(Some(&self.input[start..at]));
                }
                [] | [b'\r'] if end == self.limit => return Err(BadLine::TooLong),
                [] | [b'\r'] => return Ok(None),
                _ => return Err(BadLine::Malformed),
            }
        }
    }
}

/// The version in a request line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.0.
    Http10,
    /// HTTP/1.1.
    Http11,
    /// A later minor version of HTTP/1, which is compatible with 1.1.
    Http1Later,
    /// Another major version.
    Other,
}

/// The three parts of a request line, of which only the version has been checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestLine<'a> {
    /// The method.
    pub method: &'a [u8],
    /// The target.
    pub target: &'a [u8],
    /// The version.
    pub version: Version,
}

impl<'a> RequestLine<'a> {
    /// Splits `METHOD SP TARGET SP HTTP/1.1`, which has exactly two blanks (RFC 9112 section 3).
    #[inline]
    #[must_use]
    pub fn parse(line: &'a [u8]) -> Option<Self> {
        let mut words = line.split(|byte| *byte == b' ');
        let (Some(method), Some(target), Some(version), None) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            return None;
        };
        let version = match version {
            b"HTTP/1.1" => Version::Http11,
            b"HTTP/1.0" => Version::Http10,
            [b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'2'..=b'9'] => Version::Http1Later,
            [b'H', b'T', b'T', b'P', b'/', b'0'..=b'9', b'.', b'0'..=b'9'] => Version::Other,
            _ => return None,
        };
        Some(Self { method, target, version })
    }
}

/// Splits a field line into its name and its value, which may still have blanks around it.
///
/// The line must come from [`Lines`]. `None` for a line without a name, with a name that is not a
/// token, with blanks before the colon, and for a folded line, which begins with a blank.
#[inline]
#[must_use]
pub fn field(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let colon = line.iter().position(|byte| !is_token_byte(*byte))?;
    (colon > 0 && line[colon] == b':').then(|| (&line[..colon], &line[colon + 1..]))
}

#[cfg(test)]
mod tests {
    use super::{BadLine, Lines, RequestLine, Version, field};
    use proptest::prelude::*;

    fn check(input: &str, limit: usize, expected: Result<Option<&str>, BadLine>) {
        let found = Lines::new(input.as_bytes(), limit).read();
        assert_eq!(found, expected.map(|line| line.map(str::as_bytes)), "{input:?}");
    }

    #[test]
    fn a_line_ends_with_cr_lf_and_nothing_else() {
        check("", 9, Ok(None));
        check("a\tb\r", 9, Ok(None));
        check("a\tb\r\nc", 9, Ok(Some("a\tb")));
        check("\r\n", 9, Ok(Some("")));
        check("a\n", 9, Err(BadLine::Malformed));
        check("a\rb", 9, Err(BadLine::Malformed));
        check("a\0", 9, Err(BadLine::Malformed));
        check("a\u{7f}", 9, Err(BadLine::Malformed));
        check("\u{e4}\r\n", 9, Ok(Some("\u{e4}")));
    }

    #[test]
    fn a_line_that_reaches_the_limit_is_too_long() {
        check("abcdefgh", 9, Ok(None));
        check("abcdefghi", 9, Err(BadLine::TooLong));
        check("abcdefgh\r\n", 9, Err(BadLine::TooLong));
        check("abcdefg\r\n", 9, Ok(Some("abcdefg")));
    }

    #[test]
    fn a_request_line_has_two_blanks_and_a_version() {
        let version =
            |line: &'static str| RequestLine::parse(line.as_bytes()).map(|line| line.version);
        assert_eq!(version("GET / HTTP/1.1"), Some(Version::Http11));
        assert_eq!(version("GET / HTTP/1.0"), Some(Version::Http10));
        assert_eq!(version("GET / HTTP/1.2"), Some(Version::Http1Later));
        assert_eq!(version("GET / HTTP/2.0"), Some(Version::Other));
        assert_eq!(version("GET / HTTP/0.9"), Some(Version::Other));
        for bad in ["", "GET /", "GET  / HTTP/1.1", "GET / HTTP/1.1 ", "GET / http/1.1"] {
            assert_eq!(version(bad), None, "{bad:?}");
        }
        assert_eq!(version("GET / HTTP/1.10"), None);
    }

    #[test]
    fn a_field_has_a_token_for_a_name() {
        assert_eq!(field(b"Host: a "), Some((&b"Host"[..], &b" a "[..])));
        assert_eq!(field(b"X:"), Some((&b"X"[..], &b""[..])));
        for bad in ["", "X", ": v", "X : v", " X: v", "\tX: v", "X\u{e4}: v"] {
            assert_eq!(field(bad.as_bytes()), None, "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn more_bytes_never_change_a_decision(
            text in "[a-c\t\r\n\0]{0,20}", cut in 0_usize..20, limit in 1_usize..20,
        ) {
            let bytes = text.as_bytes();
            let part = Lines::new(&bytes[..cut.min(bytes.len())], limit).read();
            if part != Ok(None) {
                prop_assert_eq!(Lines::new(bytes, limit).read(), part);
            }
        }

        #[test]
        fn lines_put_together_again_are_the_input(text in "([a-c\t]{0,5}\r\n){0,9}") {
            let mut lines = Lines::new(text.as_bytes(), 1000);
            let mut again = Vec::new();
            while let Some(line) = lines.read().unwrap() {
                again.extend_from_slice(line);
                again.extend_from_slice(b"\r\n");
                prop_assert_eq!(lines.position(), again.len());
            }
            prop_assert_eq!(again, text.as_bytes());
        }
    }
}
