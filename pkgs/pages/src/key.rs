//! The key of a site: its namespace and its name.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The most bytes of a namespace's name (RFC 1123 label).
const NAMESPACE_BYTES_MAX: usize = 63;

/// The most bytes of an object's name (RFC 1123 subdomain).
const NAME_BYTES_MAX: usize = 253;

/// The namespace and name of a `StaticSite`.
///
/// A name alone is no key, because two namespaces may use the same name.
/// Both parts are checked, so they are safe as parts of a path: they have no slash, are not empty,
/// and do not begin with a dot.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct SiteKey {
    namespace: String,
    name: String,
}

/// A text that is not the key of a site.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadKey {
    /// The text is not `NAMESPACE/NAME`.
    Form,
    /// The namespace is not an RFC 1123 label.
    Namespace,
    /// The name is not an RFC 1123 subdomain.
    Name,
}

impl SiteKey {
    /// Checks both parts by the rules of Kubernetes.
    pub fn new(namespace: &str, name: &str) -> Result<Self, BadKey> {
        if namespace.len() > NAMESPACE_BYTES_MAX || !is_label(namespace) {
            return Err(BadKey::Namespace);
        }
        if name.len() > NAME_BYTES_MAX || !name.split('.').all(is_label) {
            return Err(BadKey::Name);
        }
        Ok(Self { namespace: namespace.to_owned(), name: name.to_owned() })
    }

    /// Returns the namespace.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Returns the name within the namespace.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// True if a text is a label of RFC 1123, apart from its length.
fn is_label(text: &str) -> bool {
    let is_inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = text.as_bytes();
    matches!((bytes.first(), bytes.last()), (Some(&first), Some(&last)) if is_inner(first) && is_inner(last))
        && bytes.iter().all(|&byte| is_inner(byte) || byte == b'-')
}

impl fmt::Display for SiteKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl FromStr for SiteKey {
    type Err = BadKey;

    fn from_str(text: &str) -> Result<Self, BadKey> {
        let (namespace, name) = text.split_once('/').ok_or(BadKey::Form)?;
        Self::new(namespace, name)
    }
}

impl From<SiteKey> for String {
    fn from(key: SiteKey) -> Self {
        key.to_string()
    }
}

impl TryFrom<String> for SiteKey {
    type Error = BadKey;

    fn try_from(text: String) -> Result<Self, BadKey> {
        text.parse()
    }
}

impl fmt::Display for BadKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Form => "a site is named NAMESPACE/NAME",
            Self::Namespace => "the namespace is not a lower-case label of at most 63 characters",
            Self::Name => "the name is not a lower-case DNS name of at most 253 characters",
        })
    }
}

impl std::error::Error for BadKey {}

#[cfg(test)]
mod tests {
    use super::{BadKey, SiteKey};

    fn check(text: &str, expected: Result<(&str, &str), BadKey>) {
        let key = text.parse::<SiteKey>();
        let parts = key.as_ref().map(|key| (key.namespace(), key.name()));
        assert_eq!(parts.map_err(|error| *error), expected, "{text}");
    }

    #[test]
    fn a_key_has_two_parts_that_are_safe_in_paths() {
        check("team-a/blog", Ok(("team-a", "blog")));
        check("team-a/blog.example.org", Ok(("team-a", "blog.example.org")));
        check("blog", Err(BadKey::Form));
        check("team/", Err(BadKey::Name));
        check("/blog", Err(BadKey::Namespace));
        check("team/../etc", Err(BadKey::Name));
        check("team/..", Err(BadKey::Name));
        check("team/.blog", Err(BadKey::Name));
        check("team.a/blog", Err(BadKey::Namespace));
        check("Team/blog", Err(BadKey::Namespace));
        check("team/bl og", Err(BadKey::Name));
        check("team/-blog", Err(BadKey::Name));
    }

    #[test]
    fn long_parts_are_refused() {
        check(&format!("{}/b", "a".repeat(64)), Err(BadKey::Namespace));
        check(&format!("a/{}", "b".repeat(254)), Err(BadKey::Name));
    }
}
