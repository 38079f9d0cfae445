//! The fields of a request that announce its body (RFC 9112 section 6).

use std::fmt;

use super::body::Body;

/// The most digits of a Content-Length: more bytes than any disk holds, and no overflow in readers
/// that use a signed number.
const LENGTH_DIGITS_MAX: usize = 18;

/// The reason why it is not certain where a request's body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadFraming {
    /// Content-Length is not a number.
    Length,
    /// There is more than one Content-Length.
    RepeatedLength,
    /// Transfer-Encoding is something other than just `chunked`.
    Coding,
    /// There is more than one Transfer-Encoding.
    RepeatedCoding,
    /// The request has both fields.
    Both,
    /// The request is HTTP/1.0, which has no Transfer-Encoding, but has this field.
    CodingInHttp10,
}

impl BadFraming {
    /// Returns the reason as a sentence for the client.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Length => "Content-Length is not a number",
            Self::RepeatedLength => "there is more than one Content-Length",
            Self::Coding => "Transfer-Encoding is not just `chunked`",
            Self::RepeatedCoding => "there is more than one Transfer-Encoding",
            Self::Both => "Transfer-Encoding and Content-Length exclude each other",
            Self::CodingInHttp10 => "HTTP/1.0 has no Transfer-Encoding",
        }
    }
}

impl fmt::Display for BadFraming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

/// The two fields of a request that announce its body.
///
/// Two statements about one body are refused even if they are equal, because only a client that
/// wants two readers to disagree sends both.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Framing<'a> {
    /// The value of Content-Length, without blanks around it.
    pub length: Option<&'a [u8]>,
    /// The value of Transfer-Encoding, without blanks around it.
    pub coding: Option<&'a [u8]>,
    /// True if Content-Length occurs more than once.
    pub length_is_repeated: bool,
    /// True if Transfer-Encoding occurs more than once.
    pub coding_is_repeated: bool,
}

impl Framing<'_> {
    /// Returns the body that these fields announce in a request of HTTP/1.0 or later.
    #[inline]
    pub fn request_body(&self, is_http10: bool) -> Result<Body, BadFraming> {
        if self.length_is_repeated {
            return Err(BadFraming::RepeatedLength);
        }
        if self.coding_is_repeated {
            return Err(BadFraming::RepeatedCoding);
        }
        match (self.length, self.coding) {
            (None, None) => Ok(Body::NONE),
            (Some(length), None) => {
                content_length(length).map(Body::Length).ok_or(BadFraming::Length)
            }
            (Some(_), Some(_)) => Err(BadFraming::Both),
            (None, Some(_)) if is_http10 => Err(BadFraming::CodingInHttp10),
            (None, Some(coding)) if coding.eq_ignore_ascii_case(b"chunked") => Ok(Body::chunked()),
            (None, Some(_)) => Err(BadFraming::Coding),
        }
    }
}

/// Reads a Content-Length: digits only, no sign, no blank, no list.
#[inline]
#[must_use]
pub fn content_length(value: &[u8]) -> Option<u64> {
    let is_number =
        (1..=LENGTH_DIGITS_MAX).contains(&value.len()) && value.iter().all(u8::is_ascii_digit);
    // At most 18 digits do not overflow.
    is_number.then(|| value.iter().fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0')))
}

#[cfg(test)]
mod tests {
    use super::{BadFraming, Body, Framing, content_length};
    use proptest::prelude::*;

    fn framing<'a>(length: Option<&'a str>, coding: Option<&'a str>) -> Framing<'a> {
        let [length, coding] = [length, coding].map(|value| value.map(str::as_bytes));
        Framing { length, coding, ..Framing::default() }
    }

    #[test]
    fn a_body_is_announced_once() {
        let check = |length, coding, expected| {
            assert_eq!(
                framing(length, coding).request_body(false),
                expected,
                "{length:?} {coding:?}"
            );
        };
        check(None, None, Ok(Body::NONE));
        check(Some("5"), None, Ok(Body::Length(5)));
        check(None, Some("Chunked"), Ok(Body::chunked()));
        check(Some("5"), Some("chunked"), Err(BadFraming::Both));
        check(None, Some("gzip, chunked"), Err(BadFraming::Coding));
        check(Some("+5"), None, Err(BadFraming::Length));
        let repeated = Framing { length_is_repeated: true, ..framing(Some("5"), None) };
        assert_eq!(repeated.request_body(false), Err(BadFraming::RepeatedLength));
        let repeated = Framing { coding_is_repeated: true, ..framing(None, Some("chunked")) };
        assert_eq!(repeated.request_body(false), Err(BadFraming::RepeatedCoding));
    }

    #[test]
    fn http_1_0_has_no_chunks() {
        let chunked = framing(None, Some("chunked"));
        assert_eq!(chunked.request_body(true), Err(BadFraming::CodingInHttp10));
        assert_eq!(framing(Some("5"), None).request_body(true), Ok(Body::Length(5)));
    }

    #[test]
    fn a_length_is_digits_and_nothing_else() {
        for bad in ["", "+1", "-0", "1, 1", "0x1", " 1", "1 ", "9999999999999999999"] {
            assert_eq!(content_length(bad.as_bytes()), None, "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn a_length_is_read_as_it_was_written(length in 0_u64..1_000_000_000_000_000_000) {
            prop_assert_eq!(content_length(length.to_string().as_bytes()), Some(length));
        }
    }
}
