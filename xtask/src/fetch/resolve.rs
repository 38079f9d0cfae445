//! Looks a host's name up once per run, not once per file.
//!
//! If the network's resolver is slow, or drops queries that come close together, the lookups for a
//! hundred small files cost more than the files.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};

use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;

/// The host's resolver, with its answers so far: `host:port` → addresses.
#[derive(Debug, Default)]
pub(super) struct Remembering {
    system: DefaultResolver,
    known: Mutex<BTreeMap<String, Vec<SocketAddr>>>,
}

impl Resolver for Remembering {
    fn resolve(
        &self,
        uri: &Uri,
        config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let place = uri.scheme().zip(uri.authority());
        let Some(place) =
            place.and_then(|(scheme, host)| DefaultResolver::host_and_port(scheme, host))
        else {
            return self.system.resolve(uri, config, timeout);
        };
        // The lock is held during the first lookup, so that the other threads find its answer.
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let mut addresses = self.empty();
        if let Some(found) = known.get(&place) {
            for address in found {
                addresses.push(*address);
            }
            return Ok(addresses);
        }
        let addresses = self.system.resolve(uri, config, timeout)?;
        known.insert(place, addresses.to_vec());
        Ok(addresses)
    }
}
