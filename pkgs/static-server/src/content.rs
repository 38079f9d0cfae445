//! The content: one site, or one for each host name.

use std::collections::HashMap;
use std::sync::Arc;

use crate::index::Index;
use crate::request::normalized_host;

/// Everything that is served.
#[derive(Debug)]
pub enum Content {
    /// One site for every host.
    One(Arc<Index>),
    /// A site for each host.
    Hosts(Hosts),
}

/// Sites by host name.
#[derive(Debug, Default)]
pub struct Hosts {
    /// Sites by normalised name. A client's host name is only looked up here and never used in a
    /// path.
    pub named: HashMap<Vec<u8>, Arc<Index>>,
    /// The site for all other names.
    pub default: Option<Arc<Index>>,
}

/// The name of the site for hosts that have no site of their own.
const DEFAULT: &[u8] = b"default";

impl Hosts {
    /// Adds a site under the normalised name of its host.
    pub fn insert(&mut self, name: Vec<u8>, index: Arc<Index>) {
        if name == DEFAULT {
            self.default = Some(index);
        } else {
            self.named.insert(name, index);
        }
    }
}

impl Content {
    /// Returns the site that was added under a name, without falling back to the default.
    #[must_use]
    pub fn own_site(&self, name: &[u8]) -> Option<&Arc<Index>> {
        match self {
            Self::One(_) => None,
            Self::Hosts(hosts) if name == DEFAULT => hosts.default.as_ref(),
            Self::Hosts(hosts) => hosts.named.get(name),
        }
    }

    /// Returns the site for a client's host name; `None` is answered with 421.
    #[must_use]
    pub fn site(&self, host: &[u8]) -> Option<&Arc<Index>> {
        match self {
            Self::One(index) => Some(index),
            Self::Hosts(hosts) => {
                hosts.named.get(&normalized_host(host)).or(hosts.default.as_ref())
            }
        }
    }

    /// Returns all sites.
    pub fn sites(&self) -> impl Iterator<Item = &Arc<Index>> {
        let (one, hosts) = match self {
            Self::One(index) => (Some(index), None),
            Self::Hosts(hosts) => (None, Some(hosts)),
        };
        let named = hosts.into_iter().flat_map(|hosts| hosts.named.values().chain(&hosts.default));
        one.into_iter().chain(named)
    }
}
