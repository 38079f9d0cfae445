//! What is served: one site, or one for each host name.

use std::collections::HashMap;
use std::sync::Arc;

use crate::index::Index;
use crate::request::normalized_host;

/// Everything that is served.
#[derive(Debug)]
pub enum Content {
    /// One site, whatever the host.
    One(Arc<Index>),
    /// A site for each host.
    Hosts(Hosts),
}

/// Sites by host name.
#[derive(Debug, Default)]
pub struct Hosts {
    /// Sites by normalised name; a client's name is looked up here and never joined to a path.
    pub named: HashMap<Vec<u8>, Arc<Index>>,
    /// For every other name.
    pub default: Option<Arc<Index>>,
}

/// Name of the site for every host that has none.
const DEFAULT: &[u8] = b"default";

impl Hosts {
    /// Adds a site by the name of its host, normalised.
    pub fn insert(&mut self, name: Vec<u8>, index: Arc<Index>) {
        if name == DEFAULT {
            self.default = Some(index);
        } else {
            self.named.insert(name, index);
        }
    }
}

impl Content {
    /// The site that was added by that name, and none in its place.
    #[must_use]
    pub fn own_site(&self, name: &[u8]) -> Option<&Arc<Index>> {
        match self {
            Self::One(_) => None,
            Self::Hosts(hosts) if name == DEFAULT => hosts.default.as_ref(),
            Self::Hosts(hosts) => hosts.named.get(name),
        }
    }

    /// The site of a host as a client names it; none is a 421.
    #[must_use]
    pub fn site(&self, host: &[u8]) -> Option<&Arc<Index>> {
        match self {
            Self::One(index) => Some(index),
            Self::Hosts(hosts) => {
                hosts.named.get(&normalized_host(host)).or(hosts.default.as_ref())
            }
        }
    }

    /// All sites.
    pub fn sites(&self) -> impl Iterator<Item = &Arc<Index>> {
        let (one, hosts) = match self {
            Self::One(index) => (Some(index), None),
            Self::Hosts(hosts) => (None, Some(hosts)),
        };
        let named = hosts.into_iter().flat_map(|hosts| hosts.named.values().chain(&hosts.default));
        one.into_iter().chain(named)
    }
}
