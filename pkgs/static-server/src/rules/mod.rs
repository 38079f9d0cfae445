//! `_headers` and `_redirects` in the dialect of Cloudflare Pages.
//!
//! Its documentation is the specification
//! (<https://developers.cloudflare.com/pages/configuration/headers/> and `…/redirects/`). Rules are
//! compared with the decoded path. A line that is no rule is left out and reported; the others hold.

mod change;
pub mod headers;
mod line;
pub mod pattern;
pub mod redirects;

use std::collections::HashMap;

pub use crate::rules::change::Change;
use crate::rules::headers::HeaderRule;
pub use crate::rules::line::Complaint;
pub use crate::rules::redirects::Redirect;
use crate::rules::redirects::RedirectRule;

/// Rules of one site.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rules {
    /// The text of `_headers`; a pack keeps it.
    pub headers_text: Vec<u8>,
    /// The text of `_redirects`; a pack keeps it.
    pub redirects_text: Vec<u8>,
    headers: Vec<HeaderRule>,
    redirects: Vec<RedirectRule>,
    /// Decoded path → number of its rule, for those without placeholders.
    fixed: HashMap<Vec<u8>, usize>,
    /// Numbers of the others.
    dynamic: Vec<usize>,
}

impl Rules {
    /// Reads both texts. Bad lines are left out and reported.
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
        let rules = Self {
            headers_text: headers.to_vec(),
            redirects_text: redirects.to_vec(),
            headers: header_rules,
            redirects: redirect_rules,
            fixed,
            dynamic,
        };
        (rules, complaints)
    }

    /// What the rules of `_headers` change for a decoded path. Rules with a host count if it is
    /// `host`, which is normalised.
    #[must_use]
    pub fn changes(&self, path: &[u8], host: Option<&[u8]>) -> Vec<Change> {
        let mut changes = Vec::new();
        for rule in &self.headers {
            rule.apply(path, host, &mut changes);
        }
        changes
    }

    /// Whether fields depend on the host, so that no block can be ready.
    #[must_use]
    pub fn depend_on_host(&self) -> bool {
        self.headers.iter().any(HeaderRule::has_host)
    }

    /// Whether `_headers` has a rule.
    #[must_use]
    pub const fn change_fields(&self) -> bool {
        !self.headers.is_empty()
    }

    /// The first rule of `_redirects` that matches a decoded path.
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
