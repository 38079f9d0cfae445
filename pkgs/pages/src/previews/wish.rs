//! The part of a site's specification about previews.

use std::time::Duration;

use super::pattern::{matches, start};
use super::reference::{BRANCHES, MERGES, PULLS, Reference};

/// The wish of a site for previews.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wish {
    /// The branch of the site itself, which has no preview.
    pub main: String,
    /// The patterns of branches.
    pub branches: Vec<String>,
    /// True if pull requests have previews.
    pub pulls: bool,
    /// True if pull requests of strangers, from their own copies of the repository, have some, too.
    pub forks: bool,
    /// The time for which a preview lives after its last commit.
    pub lifetime: Duration,
    /// The most previews.
    pub max: usize,
}

impl Wish {
    /// True if a reference is one of those that the site wants.
    #[must_use]
    pub fn wants(&self, reference: &Reference) -> bool {
        match reference {
            Reference::Branch(name) => {
                *name != self.main && self.branches.iter().any(|pattern| matches(pattern, name))
            }
            Reference::Pull(_) | Reference::Merge(_) => self.pulls,
        }
    }

    /// Returns the starts of the references that matter, for the server's list. All branches matter for
    /// pull requests, because their commits tell which requests are the members' own.
    #[must_use]
    pub fn prefixes(&self) -> Vec<String> {
        let mut prefixes: Vec<String> =
            self.branches.iter().map(|pattern| format!("{BRANCHES}{}", start(pattern))).collect();
        if self.pulls {
            prefixes = vec![BRANCHES.to_owned(), PULLS.0.to_owned(), MERGES.0.to_owned()];
        }
        prefixes.sort();
        prefixes.dedup();
        prefixes
    }
}
