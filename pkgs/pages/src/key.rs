//! The key of a site: its namespace and its name, and the label of a preview.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The most bytes of a namespace's name (RFC 1123 label).
const NAMESPACE_BYTES_MAX: usize = 63;

/// The most bytes of an object's name (RFC 1123 subdomain).
const NAME_BYTES_MAX: usize = 253;

/// The namespace and name of a `StaticSite`, and the label of one of its previews.
///
/// A name alone is no key, because two namespaces may use the same name.
/// All parts are checked, so they are safe as parts of a path: they have no slash, are not empty,
/// and do not begin with a dot. No object of Kubernetes has a slash in its name, so no site has the key
/// of a preview.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct SiteKey {
    namespace: String,
    name: String,
    preview: Option<String>,
}

/// A text that is not the key of a site.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadKey {
    /// The text is neither `NAMESPACE/NAME` nor `NAMESPACE/NAME/PREVIEW`.
    Form,
    /// The namespace is not an RFC 1123 label.
    Namespace,
    /// The name is not an RFC 1123 subdomain.
    Name,
    /// The preview is not an RFC 1123 label.
    Preview,
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
        Ok(Self { namespace: namespace.to_owned(), name: name.to_owned(), preview: None })
    }

    /// Returns the key of one of the site's previews.
    pub fn with_preview(&self, label: &str) -> Result<Self, BadKey> {
        if label.len() > NAMESPACE_BYTES_MAX || !is_label(label) {
            return Err(BadKey::Preview);
        }
        Ok(Self { preview: Some(label.to_owned()), ..self.clone() })
    }

    /// Returns the label of the preview; nothing for the site itself.
    #[must_use]
    pub fn preview(&self) -> Option<&str> {
        self.preview.as_deref()
    }

    /// Returns the key of the site that a preview belongs to.
    #[must_use]
    pub fn site(&self) -> Self {
        Self { preview: None, ..self.clone() }
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
        write!(f, "{}/{}", self.namespace, self.name)?;
        self.preview.as_ref().map_or(Ok(()), |label| write!(f, "/{label}"))
    }
}

impl FromStr for SiteKey {
    type Err = BadKey;

    fn from_str(text: &str) -> Result<Self, BadKey> {
        let (namespace, rest) = text.split_once('/').ok_or(BadKey::Form)?;
        match rest.split_once('/') {
            None => Self::new(namespace, rest),
            Some((name, label)) => Self::new(namespace, name)?.with_preview(label),
        }
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
            Self::Form => "a site is named NAMESPACE/NAME, a preview NAMESPACE/NAME/PREVIEW",
            Self::Namespace => "the namespace is not a lower-case label of at most 63 characters",
            Self::Name => "the name is not a lower-case DNS name of at most 253 characters",
            Self::Preview => "the preview is not a lower-case label of at most 63 characters",
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
    fn a_preview_has_a_third_part_that_no_name_can_have() {
        let site = SiteKey::new("team", "blog").unwrap();
        let preview = site.with_preview("pr-1").unwrap();
        assert_eq!(
            (preview.to_string().as_str(), preview.preview()),
            ("team/blog/pr-1", Some("pr-1"))
        );
        assert_eq!("team/blog/pr-1".parse(), Ok(preview.clone()));
        assert_eq!((preview.site(), site.preview()), (site.clone(), None));
        assert!(SiteKey::new("team", "blog/pr-1").is_err(), "a name has no slash");
        for text in ["team/blog/", "team/blog/..", "team/blog/a/b", "team/blog/a.b", "team/blog/A"]
        {
            assert_eq!(text.parse::<SiteKey>(), Err(BadKey::Preview), "{text}");
        }
        assert_eq!(site.with_preview(&"a".repeat(64)), Err(BadKey::Preview));
    }

    #[test]
    fn long_parts_are_refused() {
        check(&format!("{}/b", "a".repeat(64)), Err(BadKey::Namespace));
        check(&format!("a/{}", "b".repeat(254)), Err(BadKey::Name));
    }
}
