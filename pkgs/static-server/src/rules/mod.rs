//! `_headers` and `_redirects` in the dialect of Cloudflare Pages.

use crate::index::block::Change;

/// Rules of one site.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rules {
    /// The text of `_headers`; a pack keeps it.
    pub headers_text: Vec<u8>,
    /// The text of `_redirects`; a pack keeps it.
    pub redirects_text: Vec<u8>,
}

/// A line that is not a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Complaint {
    /// `_headers` or `_redirects`.
    pub file: &'static str,
    /// Number of the line, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub what: String,
}

impl Rules {
    /// Reads both texts. Bad lines are left out and reported.
    #[must_use]
    pub fn parse(headers: &[u8], redirects: &[u8]) -> (Self, Vec<Complaint>) {
        (Self { headers_text: headers.to_vec(), redirects_text: redirects.to_vec() }, Vec::new())
    }

    /// What the rules of `_headers` change for a decoded path. Rules with a host count if it is
    /// `host`.
    #[must_use]
    pub fn changes(&self, _path: &[u8], _host: Option<&[u8]>) -> Vec<Change> {
        Vec::new()
    }
}
