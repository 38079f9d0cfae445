//! The references of git that can have a preview.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The most bytes of a reference. Longer names exist, but no forge shows them.
pub const REFERENCE_BYTES_MAX: usize = 255;

/// The most digits of a number.
const DIGITS_MAX: usize = 18;

/// The start of a branch's full name.
pub const BRANCHES: &str = "refs/heads/";

/// Start and end of a pull request's reference at GitHub, Forgejo and Gitea.
pub const PULLS: (&str, &str) = ("refs/pull/", "/head");

/// Start and end of a merge request's reference at GitLab.
pub const MERGES: (&str, &str) = ("refs/merge-requests/", "/head");

/// A branch, or the head of a pull request.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Reference {
    /// A branch, without `refs/heads/`.
    Branch(String),
    /// `refs/pull/N/head`.
    Pull(u64),
    /// `refs/merge-requests/N/head`.
    Merge(u64),
}

/// A reference that can have no preview.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoPreview;

impl Reference {
    /// Returns the branch, unless it is a pull request.
    #[must_use]
    pub fn branch(&self) -> Option<&str> {
        match self {
            Self::Branch(name) => Some(name),
            Self::Pull(_) | Self::Merge(_) => None,
        }
    }

    /// Returns the number of a pull request.
    #[must_use]
    pub const fn number(&self) -> Option<u64> {
        match self {
            Self::Branch(_) => None,
            Self::Pull(number) | Self::Merge(number) => Some(*number),
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ((start, end), number) = match self {
            Self::Branch(name) => return write!(f, "{BRANCHES}{name}"),
            Self::Pull(number) => (PULLS, number),
            Self::Merge(number) => (MERGES, number),
        };
        write!(f, "{start}{number}{end}")
    }
}

impl FromStr for Reference {
    type Err = NoPreview;

    fn from_str(text: &str) -> Result<Self, NoPreview> {
        if text.len() > REFERENCE_BYTES_MAX || text.chars().any(char::is_control) {
            return Err(NoPreview);
        }
        if let Some(name) = text.strip_prefix(BRANCHES) {
            return if name.is_empty() {
                Err(NoPreview)
            } else {
                Ok(Self::Branch(name.to_owned()))
            };
        }
        let number = |(start, end)| number(text.strip_prefix(start)?.strip_suffix(end)?);
        let pull = number(PULLS).map(Self::Pull);
        pull.or_else(|| number(MERGES).map(Self::Merge)).ok_or(NoPreview)
    }
}

/// Reads a number above zero in its only spelling.
fn number(text: &str) -> Option<u64> {
    let is_canonical = text.len() <= DIGITS_MAX && text.bytes().all(|byte| byte.is_ascii_digit());
    (is_canonical && !text.starts_with('0')).then(|| text.parse().ok()).flatten()
}

impl From<Reference> for String {
    fn from(reference: Reference) -> Self {
        reference.to_string()
    }
}

impl TryFrom<String> for Reference {
    type Error = NoPreview;

    fn try_from(text: String) -> Result<Self, NoPreview> {
        text.parse()
    }
}

impl fmt::Display for NoPreview {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("neither a branch nor the head of a pull request")
    }
}

impl std::error::Error for NoPreview {}

#[cfg(test)]
mod tests {
    use super::Reference;
    use proptest::prelude::*;

    #[test]
    fn branches_and_heads_of_pull_requests_are_read() {
        for (text, expected) in [
            ("refs/heads/feature/a", Reference::Branch("feature/a".to_owned())),
            ("refs/pull/12/head", Reference::Pull(12)),
            ("refs/merge-requests/7/head", Reference::Merge(7)),
        ] {
            assert_eq!(text.parse(), Ok(expected));
        }
        for text in [
            "",
            "HEAD",
            "refs/heads/",
            "refs/tags/v1",
            "refs/pull/12/merge",
            "refs/pull/012/head",
            "refs/pull/0/head",
            "refs/pull/-1/head",
            "refs/pull/1/2/head",
            "refs/pull//head",
            "refs/pull/9999999999999999999/head",
            "refs/heads/a\nb",
        ] {
            assert!(text.parse::<Reference>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_reference_has_one_spelling(text in "refs/(heads|pull|merge-requests)/\\PC{0,20}(/head)?") {
            if let Ok(reference) = text.parse::<Reference>() {
                prop_assert_eq!(reference.to_string(), text);
            }
        }
    }
}
