//! Host names and path prefixes in the form in which they are compared.

use std::fmt;

/// The most bytes of a host name (RFC 1035, section 2.3.4, as text without the final dot).
const HOST_BYTES_MAX: usize = 253;

/// The most bytes of a label (RFC 1035, section 2.3.4).
const LABEL_BYTES_MAX: usize = 63;

/// The most bytes of a path prefix.
const PREFIX_BYTES_MAX: usize = 256;

/// A text that is not a host name or a prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadName {
    /// The host name has characters outside ASCII.
    NotAscii,
    /// The host name is an IP address, or its last label is a number.
    Number,
    /// The host name is not two or more labels of letters, digits and inner hyphens.
    Host,
    /// The prefix is not a path of plain segments.
    Prefix,
}

/// Returns a host name in lower case and without a final dot.
///
/// Only ASCII is accepted, because two texts in Unicode can look the same; other scripts are written
/// in punycode (RFC 5891). An underscore is refused: RFC 952 and RFC 1123 know it in no host name.
pub fn host(text: &str) -> Result<String, BadName> {
    if !text.is_ascii() {
        return Err(BadName::NotAscii);
    }
    let host = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    if host.len() > HOST_BYTES_MAX || !host.contains('.') || !host.split('.').all(is_label) {
        return Err(BadName::Host);
    }
    // WHATWG's URL standard reads a host as an IPv4 address if its last label is a number.
    let last = host.rsplit('.').next().unwrap_or_default();
    let is_number = |label: &str| label.bytes().all(|byte| byte.is_ascii_digit());
    if is_number(last) || last.strip_prefix("0x").is_some_and(is_hexadecimal) {
        return Err(BadName::Number);
    }
    Ok(host)
}

fn is_hexadecimal(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// True for a label of a host name in lower case (RFC 1123, section 2.1).
fn is_label(label: &str) -> bool {
    let is_inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = label.as_bytes();
    bytes.len() <= LABEL_BYTES_MAX
        && bytes.first().is_some_and(|&byte| is_inner(byte))
        && bytes.last().is_some_and(|&byte| is_inner(byte))
        && bytes.iter().all(|&byte| is_inner(byte) || byte == b'-')
}

/// Returns a prefix with a slash at the start and none at the end; an empty one for the whole host.
///
/// A segment has unreserved characters only (RFC 3986, section 2.3), so a prefix has one spelling.
pub fn prefix(text: &str) -> Result<String, BadName> {
    let text = text.strip_suffix('/').unwrap_or(text);
    if text.is_empty() {
        return Ok(String::new());
    }
    let segments = text.strip_prefix('/').ok_or(BadName::Prefix)?;
    if text.len() > PREFIX_BYTES_MAX || !segments.split('/').all(is_segment) {
        return Err(BadName::Prefix);
    }
    Ok(text.to_owned())
}

fn is_segment(segment: &str) -> bool {
    let is_unreserved = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    !matches!(segment, "" | "." | "..") && segment.bytes().all(is_unreserved)
}

/// True if `host` is `domain` or a name below it.
#[must_use]
pub fn is_within(host: &str, domain: &str) -> bool {
    host == domain || is_below(host, domain)
}

/// True if `host` is a name below `domain`.
#[must_use]
pub fn is_below(host: &str, domain: &str) -> bool {
    host.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.'))
}

impl fmt::Display for BadName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotAscii => "the domain has characters outside ASCII; write it in punycode",
            Self::Number => "the domain's last label is a number",
            Self::Host => "the domain is not a host name of two or more labels",
            Self::Prefix => {
                "pathPrefix is not a path of segments of letters, digits and the characters -._~"
            }
        })
    }
}

impl std::error::Error for BadName {}

#[cfg(test)]
mod tests {
    use super::{BadName, host, is_below, is_within, prefix};
    use proptest::prelude::*;

    #[test]
    fn a_host_has_one_spelling() {
        for text in ["www.example.com", "WWW.Example.COM", "www.example.com."] {
            assert_eq!(host(text).as_deref(), Ok("www.example.com"), "{text}");
        }
        assert_eq!(host("xn--bcher-kva.example").as_deref(), Ok("xn--bcher-kva.example"));
        for (text, expected) in [
            ("bücher.example", BadName::NotAscii),
            ("example․com", BadName::NotAscii),
            ("192.0.2.1", BadName::Number),
            ("a.0x7f", BadName::Number),
            ("localhost", BadName::Host),
            ("*.example.com", BadName::Host),
            ("a..b", BadName::Host),
            ("a.b..", BadName::Host),
            ("-a.example", BadName::Host),
            ("a_b.example", BadName::Host),
            ("a.example:80", BadName::Host),
            ("a.example/`", BadName::Host),
            ("", BadName::Host),
        ] {
            assert_eq!(host(text), Err(expected), "{text}");
        }
    }

    #[test]
    fn a_prefix_has_one_spelling() {
        for (text, expected) in [("", ""), ("/", ""), ("/a", "/a"), ("/a/", "/a"), ("/a/b", "/a/b")]
        {
            assert_eq!(prefix(text).as_deref(), Ok(expected), "{text}");
        }
        for text in ["a", "//", "/a//b", "/a/..", "/./a", "/a%2f", "/a b", "/a`)", "/ä", "/a//"] {
            assert_eq!(prefix(text), Err(BadName::Prefix), "{text}");
        }
    }

    #[test]
    fn a_domain_ends_at_a_dot() {
        assert!(
            is_below("a.example.com", "example.com") && !is_below("example.com", "example.com")
        );
        assert!(
            is_within("example.com", "example.com") && !is_within("aexample.com", "example.com")
        );
    }

    proptest! {
        #[test]
        fn normalising_twice_changes_nothing(text in "\\PC{0,40}") {
            if let Ok(once) = host(&text) {
                prop_assert_eq!(host(&once), Ok(once.clone()));
            }
            if let Ok(once) = prefix(&text) {
                prop_assert_eq!(prefix(&once), Ok(once.clone()));
            }
        }
    }
}
