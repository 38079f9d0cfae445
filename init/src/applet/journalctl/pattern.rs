//! `--grep`: which lines match.
//!
//! journalctl's patterns are PCRE2's. kubelet lets only those through that Go's `regexp/syntax`
//! accepts, so there is neither look-around nor a back-reference; of what is left, `regex-lite`
//! lacks `\p{…}` and `\Q…\E`, and its `\w`, `\d`, `\s` and letters' case are ASCII's.

use std::borrow::Cow;

use regex_lite::{Regex, RegexBuilder};

/// Compiled programs above this many bytes are refused: `((a{99}){99}){99}` is one.
const SIZE_MAX: usize = 1024 * 1024;

/// A pattern that was compiled.
#[derive(Debug)]
pub enum Pattern {
    /// Text that is looked for as it is: most patterns are, and a search for it is much faster.
    Text {
        /// In lower case where the case does not matter.
        needle: Vec<u8>,
        /// Whether capital letters match small ones.
        any_case: bool,
    },
    /// Everything else.
    Regex(Regex),
}

impl Pattern {
    /// Compiles a pattern. As in journalctl, one without capital letters matches both cases.
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

    /// Whether a part of the text matches.
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
    fn what_cannot_be_compiled_is_an_error_that_names_it() {
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
        /// The quick search finds what the engine finds.
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
