//! Host names in the form in which they are compared: lower case, no trailing dot, labels as DNS has
//! them.
//!
//! RFC 1035 section 2.3.4 (sizes), RFC 6066 section 3 (server names are ASCII, without a trailing
//! dot), RFC 9110 section 4.2.3 (case does not matter).

use std::net::Ipv6Addr;

/// The most characters of a name, without the trailing dot.
const NAME_CHARS_MAX: usize = 253;

/// The most characters of a label.
const LABEL_CHARS_MAX: usize = 63;

/// Returns a name in the form in which names are compared; `None` for an invalid name.
///
/// Underscores are accepted: host names must not have them, but they are in use.
#[must_use]
pub fn normalise(text: &[u8]) -> Option<String> {
    let text = text.strip_suffix(b".").unwrap_or(text);
    if text.is_empty()
        || text.len() > NAME_CHARS_MAX
        || !text.split(|byte| *byte == b'.').all(is_label)
    {
        return None;
    }
    let lower = text.iter().map(|byte| char::from(byte.to_ascii_lowercase()));
    Some(lower.collect())
}

fn is_label(label: &[u8]) -> bool {
    let is_inner = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    (1..=LABEL_CHARS_MAX).contains(&label.len()) && label.iter().all(is_inner)
}

/// A host and its port, as in the Host field and in an absolute target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authority {
    /// A normalised name, or an address in canonical form.
    pub host: String,
    /// The port, if there is one.
    pub port: Option<u16>,
}

impl std::fmt::Display for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.host)?;
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

/// Parses `host`, `host:port` or `[address]:port` (RFC 3986 section 3.2); `None` for anything else.
#[must_use]
pub fn authority(text: &[u8]) -> Option<Authority> {
    let end = match text.iter().position(|byte| *byte == b']') {
        Some(bracket) => bracket + 1,
        None => text.iter().position(|byte| *byte == b':').unwrap_or(text.len()),
    };
    let (host, rest) = text.split_at(end);
    let port = match rest {
        [] | [b':'] => None,
        [b':', digits @ ..] if digits.iter().all(u8::is_ascii_digit) => {
            Some(std::str::from_utf8(digits).ok()?.parse().ok()?)
        }
        _ => return None,
    };
    Some(Authority { host: literal(host).or_else(|| normalise(host))?, port })
}

fn literal(text: &[u8]) -> Option<String> {
    let inside = text.strip_prefix(b"[")?.strip_suffix(b"]")?;
    let address: Ipv6Addr = std::str::from_utf8(inside).ok()?.parse().ok()?;
    Some(format!("[{address}]"))
}

/// An element of a route's `names`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Pattern {
    /// One name.
    Exact(String),
    /// `*.suffix`: names with one or more labels before the suffix, but not the suffix itself.
    Below(String),
}

impl Pattern {
    /// Parses a name, `*.` and a name, or an IPv6 address in brackets; `None` for anything else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if let Some(suffix) = text.strip_prefix("*.") {
            return normalise(suffix.as_bytes()).map(Self::Below);
        }
        let exact = literal(text.as_bytes()).or_else(|| normalise(text.as_bytes()));
        exact.map(Self::Exact)
    }
}

impl std::fmt::Display for Pattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Exact(name) => f.write_str(name),
            Self::Below(suffix) => write!(f, "*.{suffix}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Pattern, authority, normalise};
    use proptest::prelude::*;

    #[test]
    fn names_are_equal_whatever_their_case_and_trailing_dot() {
        assert_eq!(normalise(b"WWW.A.Test.").as_deref(), Some("www.a.test"));
        assert_eq!(normalise(b"_acme.a-b.test").as_deref(), Some("_acme.a-b.test"));
        for bad in
            ["", ".", "a..b", ".a", "a..", "a b", "a/b", "ä.test", "a\0b", "*", "a@b", "a%41"]
        {
            assert_eq!(normalise(bad.as_bytes()), None, "{bad:?}");
        }
        assert_eq!(normalise(&[b'a'; 64]), None);
        let long = ["a".repeat(63), "b".repeat(63), "c".repeat(63), "d".repeat(61)].join(".");
        assert_eq!(normalise(long.as_bytes()), Some(long.clone()));
        assert_eq!(normalise(format!("{long}d").as_bytes()), None);
    }

    #[test]
    fn an_authority_is_a_host_with_an_optional_port() {
        let check = |text: &str, expected: Option<(&str, Option<u16>)>| {
            let got = authority(text.as_bytes());
            assert_eq!(got.as_ref().map(|a| (a.host.as_str(), a.port)), expected, "{text:?}");
        };
        check("A.test", Some(("a.test", None)));
        check("a.test.:80", Some(("a.test", Some(80))));
        check("a:", Some(("a", None)));
        check("[::0001]:8080", Some(("[::1]", Some(8080))));
        check("10.0.0.1", Some(("10.0.0.1", None)));
        for bad in [
            "", ":80", "a:b", "a:99999", "a:80:80", "[::1", "::1", "u@a", "a/b", "[::1]x", "a,b",
            "[]",
        ] {
            check(bad, None);
        }
    }

    #[test]
    fn a_pattern_has_its_star_only_in_front() {
        assert_eq!(Pattern::parse("*.A.test."), Some(Pattern::Below("a.test".into())));
        assert_eq!(Pattern::parse("[::1]"), Some(Pattern::Exact("[::1]".into())));
        for bad in ["*", "*.", "a.*", "*a.test", "*.*.test", ""] {
            assert_eq!(Pattern::parse(bad), None, "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn a_normalised_name_does_not_change_when_it_is_normalised_again(text in prop::collection::vec(any::<u8>(), 0..80)) {
            if let Some(name) = normalise(&text) {
                prop_assert_eq!(normalise(name.as_bytes()), Some(name));
            }
            if let Some(found) = authority(&text) {
                prop_assert_eq!(authority(found.host.as_bytes()).map(|a| a.host), Some(found.host));
            }
        }
    }
}
