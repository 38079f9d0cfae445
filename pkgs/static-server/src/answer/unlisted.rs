//! Answers of sites that search engines must not list, such as previews.
//!
//! The field is added to the finished answer, so no rule and no file of the site can take it away.

use super::{Answer, Block};
use crate::index::Index;
use crate::index::block::fields;
use crate::request::Method;

/// The field that asks search engines to stay away, also from the links of a page.
const FIELD: &[u8] = b"X-Robots-Tag: noindex, nofollow\r\n";

/// The name of the field.
const NAME: &[u8] = b"x-robots-tag";

/// The path of the rules for crawlers (RFC 9309, section 2.3).
const ROBOTS: &[u8] = b"/robots.txt";

/// Rules that forbid everything.
const FORBID: &str = "User-agent: *\nDisallow: /\n";

impl Answer {
    /// Returns the rules for crawlers of such a site, whatever file it has; nothing for other paths.
    pub(super) fn robots(method: Method, path: &[u8]) -> Option<Self> {
        let is_read = matches!(method, Method::Get | Method::Head);
        let fields = "Cache-Control: no-cache\r\n";
        (is_read && path == ROBOTS).then(|| Self::text("200 OK", fields, FORBID.into(), method))
    }

    /// Replaces the field.
    pub(super) fn unlisted(mut self, index: &Index) -> Self {
        let old = match &self.head {
            Block::Made(bytes) => bytes,
            Block::Ready(span) => index.bytes(*span),
        };
        let end = old.iter().position(|byte| *byte == b'\n').map_or(old.len(), |end| end + 1);
        let (line, rest) = old.split_at(end);
        let mut head = line.to_vec();
        for (name, value) in fields(rest) {
            if !name.eq_ignore_ascii_case(NAME) {
                head.extend([name, b": ", value, b"\r\n"].concat());
            }
        }
        head.extend_from_slice(FIELD);
        self.head = Block::Made(head);
        self
    }
}
