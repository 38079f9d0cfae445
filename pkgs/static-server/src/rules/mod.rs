//! `_headers` and `_redirects` in the dialect of Cloudflare Pages.
//!
//! Its documentation is the specification
//! (<https://developers.cloudflare.com/pages/configuration/headers/> and `…/redirects/`). Rules are
//! compared with the decoded path. An invalid line is skipped and reported; the other lines apply.

mod change;
pub mod headers;
mod line;
pub mod pattern;
pub mod redirects;

use std::collections::HashMap;

pub use crate::rules::change::{Change, changed};
use crate::rules::headers::HeaderRule;
pub use crate::rules::line::{BadSize, Complaint, check_size};
pub use crate::rules::redirects::Redirect;
use crate::rules::redirects::RedirectRule;

/// The rules of one site.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rules {
    /// The text of `_headers`, for a pack.
    pub headers_text: Vec<u8>,
    /// The text of `_redirects`, for a pack.
    pub redirects_text: Vec<u8>,
    headers: Vec<HeaderRule>,
    redirects: Vec<RedirectRule>,
    /// Decoded path → number of its redirect rule, for rules without placeholders.
    fixed: HashMap<Vec<u8>, usize>,
    /// The numbers of the other redirect rules.
    dynamic: Vec<usize>,
    /// True if a header rule is late.
    late: bool,
}

impl Rules {
    /// Parses both texts. Invalid lines are skipped and reported.
    #[must_use]
    pub fn parse(headers: &[u8], redirects: &[u8]) -> (Self, Vec<Complaint>) {
        let (header_rules, mut complaints) = headers::parse(headers);
        let (redirect_rules, more) = redirects::parse(redirects);
        complaints.extend(more);
        let mut fixed = HashMap::new();
        let mut dynamic = Vec::new();
        for (number, rule) in redirect_rules.iter().enumerate() {
            match rule.fixed_source() {
                Some(path) => drop(fixed.entry(path.to_vec()).or_insert(number)),
                None => dynamic.push(number),
            }
        }
        let late = header_rules.iter().any(HeaderRule::is_late);
        let rules = Self {
            headers_text: headers.to_vec(),
            redirects_text: redirects.to_vec(),
            headers: header_rules,
            redirects: redirect_rules,
            fixed,
            dynamic,
            late,
        };
        (rules, complaints)
    }

    /// Returns the changes that `_headers` makes for a decoded path. A rule with a host applies if
    /// the host is `host`, which must be normalised.
    #[must_use]
    pub fn changes(&self, path: &[u8], host: Option<&[u8]>) -> Vec<Change> {
        let mut changes = Vec::new();
        for rule in &self.headers {
            rule.apply(path, host, &mut changes);
        }
        changes
    }

    /// True if the changes for a decoded path depend on the host or on the path itself, so that its
    /// answer cannot share a header block with others.
    #[must_use]
    pub fn is_late(&self, path: &[u8]) -> bool {
        self.late && self.headers.iter().any(|rule| rule.is_late() && rule.may_apply(path))
    }

    /// Returns the changes that the index applies to a decoded path: all of them, or none if they
    /// are late.
    #[must_use]
    pub fn early_changes(&self, path: &[u8]) -> Vec<Change> {
        if self.is_late(path) { Vec::new() } else { self.changes(path, None) }
    }

    /// True if `_headers` has a rule.
    #[must_use]
    pub const fn change_fields(&self) -> bool {
        !self.headers.is_empty()
    }

    /// Returns the outcome of the first redirect rule that matches a decoded path.
    #[must_use]
    pub fn redirect(&self, path: &[u8]) -> Option<Redirect> {
        if self.redirects.is_empty() {
            return None;
        }
        let fixed = self.fixed.get(path).copied();
        let before =
            self.dynamic.iter().take_while(|number| fixed.is_none_or(|fixed| **number < fixed));
        let mut candidates = before.copied().chain(fixed);
        candidates.find_map(|number| self.redirects[number].apply(path))
    }
}
