//! The read-only status page. Pure: rows and a query become HTML.
//!
//! The page needs no JavaScript and allows none: its policy permits only its own style sheet and form.
//! It has names, addresses, states and commits, and no repository, login, token or internal address.
//!
//! | module | content |
//! | --- | --- |
//! | [`escape`] | texts of strangers as HTML |
//! | [`query`] | the filter and the page, from the URL |
//! | [`page`] | the page |

pub mod escape;
pub mod page;
pub mod query;

use crate::key::SiteKey;

/// The policy of the page (Content Security Policy, level 3).
pub const POLICY: &str = "default-src 'none'; style-src 'self'; form-action 'self'; \
                          base-uri 'none'; frame-ancestors 'none'";

/// The style sheet.
pub const STYLE: &str = include_str!("style.css");

/// The state of a site for visitors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Health {
    /// Visitors get a revision.
    Ready,
    /// They get none.
    NotReady,
    /// Nothing is known yet.
    Unknown,
}

/// A line of the page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The site.
    pub site: SiteKey,
    /// Its address for a browser.
    pub url: Option<String>,
    /// Its state.
    pub health: Health,
    /// The state's reason.
    pub reason: String,
    /// The reason in words, if visitors or the owner should act.
    pub message: Option<String>,
    /// The commit in force.
    pub commit: Option<String>,
    /// The time of its publishing.
    pub published: Option<String>,
}

#[cfg(test)]
mod tests;
