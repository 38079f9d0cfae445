//! The patterns of `--grep`.
//!
//! journalctl uses PCRE2. kubelet passes on only patterns that Go's `regexp/syntax` accepts, which
//! has neither look-around nor back-references. Of the rest `regex-lite` lacks `\p{…}` and `\Q…\E`,
//! and its `\w`, `\d`, `\s` and letter case are those of ASCII.

use std::borrow::Cow;

use regex_lite::{Regex, RegexBuilder};

/// The size limit of a compiled pattern in bytes: `((a{99}){99}){99}` is above it.
const SIZE_MAX: usize = 1024 * 1024;

/// A compiled pattern.
#[derive(Debug)]
pub enum Pattern {
    /// A plain text, which most patterns are and which is searched much faster.
    Text {
        /// The text, in lower case if case is ignored.
        needle: Vec<u8>,
        /// True if case is ignored.
        any_case: bool,
    },
    /// Any other pattern.
    Regex(Regex),
}

impl Pattern {
    /// Compiles a pattern. As in journalctl, a pattern without capital letters ignores case.
    pub fn new(text: &str) -> Result<Self, String> {
        let any_case = !text.chars().any(char::is_uppercase);
        let special = |c: char| r"\.+*?()|[]{}^$".contains(c);
        if !text.contains(special) {
            return Ok(Self::Text { needle: text.as_bytes().to_vec(), any_case });
        }
        let mut builder = RegexBuilder::new(text);
        builder.case_insensitive(any_case).size_limit(SIZE_MAX);
        match builder.build() {
            Ok(regex) => Ok(Self::Regex(regex)),
            Err(error) => Err(format!("pattern {text:?}: {error}")),
        }
    }

    /// True if a part of the text matches.
    #[must_use]
    pub fn matches(&self, text: &[u8]) -> bool {
        match self {
            Self::Text { needle, any_case: false } => contains(text, needle, |a, b| a == b),
            Self::Text { needle, any_case: true } => {
                contains(text, needle, |a, b| a.eq_ignore_ascii_case(&b))
            }
            Self::Regex(regex) => {
                let text: Cow<'_, str> = String::from_utf8_lossy(text);
                regex.is_match(&text)
            }
        }
    }
}

fn contains(text: &[u8], needle: &[u8], equal: impl Fn(u8, u8) -> bool) -> bool {
    let Some((&first, rest)) = needle.split_first() else { return true };
    let last = text.len().saturating_sub(rest.len());
    (0..last).any(|at| {
        let same = || text[at + 1..].iter().zip(rest).all(|(&a, &b)| equal(a, b));
        equal(text[at], first) && same()
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use regex_lite::escape;

    use super::Pattern;

    fn matches(pattern: &str, text: &str) -> bool {
        Pattern::new(pattern).unwrap().matches(text.as_bytes())
    }

    #[test]
    fn a_pattern_without_capitals_matches_both_cases() {
        for (pattern, text, expected) in [
            ("error", "an Error", true),
            ("Error", "an error", false),
            ("Error", "an Error", true),
            ("err.r", "an ERROR", true),
            ("Err.r", "an ERROR", false),
            ("^start", "at start", false),
            ("a|b", "xbx", true),
            ("[[:digit:]]+ms", "took 12ms", true),
            (r"\bpod\b", "the pod", true),
            ("(?i)POD", "the pod", true),
            ("", "anything", true),
            ("long", "lon", false),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} in {text}");
        }
    }

    #[test]
    fn an_invalid_pattern_is_an_error_that_names_it() {
        for pattern in ["(", r"(?=a)", r"(a)\1", r"\p{Greek}", "((a{999}){999}){999}"] {
            let error = Pattern::new(pattern).unwrap_err();
            assert!(error.starts_with(&format!("pattern {pattern:?}: ")), "{error}");
        }
    }

    #[test]
    fn text_that_is_not_utf8_can_be_searched() {
        assert!(Pattern::new("b+c").unwrap().matches(b"\xff abc"));
        assert!(Pattern::new("abc").unwrap().matches(b"\xff abc"));
    }

    proptest! {
        /// The fast search and the engine agree.
        #[test]
        fn text_matches_as_its_regex_does(needle in "[abAB ]{0,4}", text in "[abAB ]{0,20}") {
            let quick = matches(&needle, &text);
            let slow = matches(&format!("(?:{})", escape(&needle)), &text);
            prop_assert_eq!(quick, slow);
        }

        #[test]
        fn any_pattern_is_compiled_or_refused(pattern in "\\PC{0,20}", text in "\\PC{0,20}") {
            let _ = Pattern::new(&pattern).map(|pattern| pattern.matches(text.as_bytes()));
        }
    }
}
