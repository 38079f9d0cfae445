//! The content: one site, one for each host name, or several below path prefixes of their hosts.

mod mounts;

use std::collections::HashMap;
use std::sync::Arc;

pub use crate::content::mounts::Mounts;
use crate::index::Index;
use crate::request::normalized_host;
use crate::status::Status;

/// Everything that is served.
#[derive(Debug)]
pub enum Content {
    /// One site for every host.
    One(Arc<Index>),
    /// A site for each host.
    Hosts(Hosts),
    /// Sites of several owners, each below a path prefix of a host.
    Mounts(Mounts),
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

/// The site for a request.
#[derive(Debug, Clone, Copy)]
pub struct Site<'a> {
    /// The site.
    pub index: &'a Arc<Index>,
    /// The decoded path prefix below which the site lies; usually empty.
    pub prefix: &'a [u8],
    /// True for a site that search engines must not list: every answer has `X-Robots-Tag`, and
    /// `/robots.txt` of the host forbids everything, whatever the site's files say.
    pub is_unlisted: bool,
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
            Self::Hosts(hosts) if name == DEFAULT => hosts.default.as_ref(),
            Self::Hosts(hosts) => hosts.named.get(name),
            Self::One(_) | Self::Mounts(_) => None,
        }
    }

    /// Returns the site for a client's host name and decoded path.
    ///
    /// # Errors
    ///
    /// Returns 421 for a host without a site, and 404 for a path that lies below none of the host's
    /// prefixes.
    pub fn site(&self, host: &[u8], path: &[u8]) -> Result<Site<'_>, Status> {
        let whole = |index| Site { index, prefix: &[], is_unlisted: false };
        match self {
            Self::One(index) => Ok(whole(index)),
            Self::Hosts(hosts) => {
                let named = hosts.named.get(&normalized_host(host));
                let site = named.or(hosts.default.as_ref());
                site.map(whole).ok_or(Status::MisdirectedRequest)
            }
            Self::Mounts(mounts) => mounts.site(&normalized_host(host), path),
        }
    }

    /// True if the probes' paths are answered on the clients' port. Sites of several owners keep
    /// all of their paths.
    #[must_use]
    pub const fn has_probes(&self) -> bool {
        !matches!(self, Self::Mounts(_))
    }

    /// Returns all sites.
    pub fn sites(&self) -> impl Iterator<Item = &Arc<Index>> {
        let (one, hosts, mounts) = match self {
            Self::One(index) => (Some(index), None, None),
            Self::Hosts(hosts) => (None, Some(hosts), None),
            Self::Mounts(mounts) => (None, None, Some(mounts)),
        };
        let named = hosts.into_iter().flat_map(|hosts| hosts.named.values().chain(&hosts.default));
        one.into_iter().chain(named).chain(mounts.into_iter().flat_map(Mounts::sites))
    }
}
