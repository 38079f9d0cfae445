//! The part of the queue that survives a restart.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::key::SiteKey;

/// The version of the file's format.
const VERSION: u32 = 1;

/// The times of one site, since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// The time at which the site is due.
    pub due: Duration,
    /// The number of failures in a row.
    pub failures: u32,
    /// The end of the last fetch.
    pub last: Option<Duration>,
}

/// The times of all sites.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Saved {
    version: u32,
    sites: BTreeMap<SiteKey, State>,
    /// The sites whose requests have not been passed on to the leader.
    #[serde(default)]
    pub requested: BTreeSet<SiteKey>,
}

impl Saved {
    /// Makes a file's content from times.
    #[must_use]
    pub const fn new(sites: BTreeMap<SiteKey, State>) -> Self {
        Self { version: VERSION, sites, requested: BTreeSet::new() }
    }

    /// Returns the times of a site.
    #[must_use]
    pub fn get(&self, site: &SiteKey) -> Option<&State> {
        self.sites.get(site)
    }

    /// Returns the file's bytes.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Parses a file; nothing if it is damaged or of another version.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok().filter(|saved: &Self| saved.version == VERSION)
    }
}

#[cfg(test)]
mod tests {
    use super::Saved;

    #[test]
    fn a_damaged_file_is_not_used() {
        let bytes = Saved::new(std::collections::BTreeMap::new()).bytes();
        assert!(Saved::parse(&bytes).is_some());
        assert!(Saved::parse(&bytes[1..]).is_none() && Saved::parse(b"").is_none());
        assert!(Saved::parse(br#"{"version":2,"sites":{}}"#).is_none());
    }
}
