//! The choices for a site, and the names that have a fingerprint.

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

/// The extensions of files that build tools name by their content: styles, scripts, fonts, images.
const FINGERPRINTED: [&[u8]; 17] = [
    b"css", b"js", b"mjs", b"wasm", b"woff", b"woff2", b"ttf", b"otf", b"eot", b"png", b"jpg",
    b"jpeg", b"gif", b"svg", b"webp", b"avif", b"ico",
];

/// The shortest fingerprint.
const FINGERPRINT: usize = 8;

/// True if a file's name has a fingerprint: at least 8 letters and digits, at least one of each,
/// between separators before the extension (`app.3f9a1c2b.js`, `app-BQzXx8Kd.min.js`).
///
/// Two more forms count. A fingerprint that is the whole name must be hexadecimal (`3f9a1c2b.js`,
/// but not `photo2024.jpg`). Eight characters right before the extension may include `-` and `_`,
/// which are digits of base64url, if they cannot be words and years: they need capital letters,
/// small letters and digits, and one part with both letters and digits (`index-BQ_zXx8K.js`, but
/// not
/// `report-2024-May.png`).
#[must_use]
pub fn is_fingerprinted(path: &[u8]) -> bool {
    let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or(path);
    let Some(dot) = name.iter().rposition(|byte| *byte == b'.') else { return false };
    let (stem, extension) = (&name[..dot], &name[dot + 1..]);
    if !FINGERPRINTED.iter().any(|known| known.eq_ignore_ascii_case(extension)) {
        return false;
    }
    let mut pieces = stem.split(|byte| is_separator(*byte));
    let first = pieces.next().unwrap_or_default();
    let alone = first.len() == stem.len() && first.iter().all(u8::is_ascii_hexdigit);
    (alone && is_fingerprint(first)) || pieces.any(is_fingerprint) || ends_in_base64url(stem)
}

const fn is_separator(byte: u8) -> bool {
    matches!(byte, b'.' | b'-' | b'_' | b'~')
}

fn is_fingerprint(piece: &[u8]) -> bool {
    piece.len() >= FINGERPRINT && piece.iter().all(u8::is_ascii_alphanumeric) && mixes(piece)
}

fn mixes(piece: &[u8]) -> bool {
    piece.iter().any(u8::is_ascii_digit) && piece.iter().any(u8::is_ascii_alphabetic)
}

fn ends_in_base64url(stem: &[u8]) -> bool {
    let Some(start) = stem.len().checked_sub(FINGERPRINT) else { return false };
    let (before, last) = stem.split_at(start);
    before.last().is_some_and(|byte| is_separator(*byte))
        && last.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
        && last.iter().any(u8::is_ascii_uppercase)
        && last.iter().any(u8::is_ascii_lowercase)
        && last.split(|byte| is_separator(*byte)).any(mixes)
}

#[cfg(test)]
mod tests {
    use super::{Policy, is_fingerprinted};

    #[test]
    fn words_and_years_are_not_fingerprints() {
        for name in [
            "/assets/app.3f9a1c2b.js",
            "/app-BQzXx8Kd.css",
            "/main.abcd1234.chunk.js",
            "/font_0123456789abcdef.woff2",
            "/3f9a1c2b.JS",
            "/index-BQ_zXx8K.js",
            "/index-D-abc123.js",
        ] {
            assert!(is_fingerprinted(name.as_bytes()), "{name}");
        }
        for name in [
            "/app.js",
            "/app.3f9a1c2.js",
            "/app.12345678.js",
            "/app.abcdefgh.js",
            "/photo2024.jpg",
            "/report-2024-May.png",
            "/img-v2-final.png",
            "/page.3f9a1c2b.html",
            "/data.3f9a1c2b.json",
            "/a.3f9a1c2b.js/x.js",
            "/3f9a1c2b",
            "",
        ] {
            assert!(!is_fingerprinted(name.as_bytes()), "{name}");
        }
    }

    #[test]
    fn each_kind_of_name_has_its_cache_control() {
        let policy = Policy { cache_other: String::new(), ..Policy::default() };
        assert_eq!(policy.cache_control(b"/index.HTML"), "no-cache");
        assert!(policy.cache_control(b"/a.3f9a1c2b.js").contains("immutable"));
        assert_eq!(policy.cache_control(b"/a.js"), "");
    }
}
