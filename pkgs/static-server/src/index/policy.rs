//! The choices for a site.

use crate::index::fingerprint::is_fingerprinted;

/// The choices that shape an index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// `/about` serves `about.html`, and `/about.html` redirects to it.
    pub clean_urls: bool,
    /// A path without an answer gets `/index.html`, unless its last segment has a dot.
    pub single_page: bool,
    /// `Cache-Control` of HTML; empty for no field.
    pub cache_html: String,
    /// `Cache-Control` of names with a fingerprint.
    pub cache_fingerprinted: String,
    /// `Cache-Control` of everything else.
    pub cache_other: String,
    /// Send times of files as `Last-Modified`.
    pub last_modified: bool,
}

impl Default for Policy {
    /// Caches names with a fingerprint forever. Everything else is revalidated, which is cheap with
    /// entity tags, so that a client never combines an old page with a new style sheet.
    fn default() -> Self {
        Self {
            clean_urls: false,
            single_page: false,
            cache_html: "no-cache".into(),
            cache_fingerprinted: "public, max-age=31536000, immutable".into(),
            cache_other: "no-cache".into(),
            last_modified: false,
        }
    }
}

impl Policy {
    /// Returns the `Cache-Control` of a file by its path.
    #[must_use]
    pub fn cache_control(&self, path: &[u8]) -> &str {
        if is_html(path) {
            &self.cache_html
        } else if is_fingerprinted(path) {
            &self.cache_fingerprinted
        } else {
            &self.cache_other
        }
    }
}

/// True for the name of a page.
#[must_use]
pub fn is_html(path: &[u8]) -> bool {
    let ends = |end: &[u8]| {
        path.len() >= end.len() && path[path.len() - end.len()..].eq_ignore_ascii_case(end)
    };
    ends(b".html") || ends(b".htm") || ends(b".xhtml")
}

#[cfg(test)]
mod tests {
    use super::Policy;

    #[test]
    fn each_kind_of_name_has_its_cache_control() {
        let policy = Policy { cache_other: String::new(), ..Policy::default() };
        assert_eq!(policy.cache_control(b"/index.HTML"), "no-cache");
        assert!(policy.cache_control(b"/a.3f9a1c2b.js").contains("immutable"));
        assert_eq!(policy.cache_control(b"/a.js"), "");
    }
}
