//! Table to open packs, and the swap of one site among many.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Result;
use static_server::connection::Limits;
use static_server::content::{Content, Mounts};
use static_server::index::Index;
use static_server::pack;
use static_server::shared::{Shared, State};

use crate::digest::Digest;
use crate::key::SiteKey;
use crate::replica::follow::{self, Observer};
use crate::replica::store::Store;
use crate::table::{Address, Entry, Table};

/// Bytes of bodies in memory for each site. The kernel's page cache holds what is often read, and
/// shares it among all sites.
const MEMORY: u64 = 0;

/// The most old revisions that slow readers may hold. Each one takes a descriptor and an index, so
/// that frequent pushes and slow readers together would use up both.
const RETIRED_MAX: usize = 64;

/// The open sites.
#[derive(Debug)]
pub struct Sites {
    store: Store,
    mounts: Mounts,
    /// The address of each mounted site.
    addresses: BTreeMap<SiteKey, Address>,
    /// The site at each address.
    owners: BTreeMap<Address, SiteKey>,
}

impl Sites {
    /// Starts without sites.
    #[must_use]
    pub fn new(store: Store) -> Self {
        Self {
            store,
            mounts: Mounts::default(),
            addresses: BTreeMap::new(),
            owners: BTreeMap::new(),
        }
    }

    /// Opens all sites of a table. A site whose pack cannot be opened is logged and left out.
    pub fn open_all(&mut self, table: &Table) {
        for entry in table.sites.values() {
            self.put(entry);
        }
    }

    /// Returns the sites by their addresses.
    #[must_use]
    pub const fn mounts(&self) -> &Mounts {
        &self.mounts
    }

    /// Adopts the entries of the given sites. Returns the number of sites that could not be opened;
    /// such a site stays as it was.
    fn adopt(&mut self, table: &Table, sites: &[SiteKey]) -> usize {
        // Sites that are gone come first, because another site may have their address now.
        for site in sites.iter().filter(|site| !table.sites.contains_key(site)) {
            self.remove(site);
        }
        let entries = sites.iter().filter_map(|site| table.sites.get(site));
        entries.filter(|entry| !self.put(entry)).count()
    }

    fn put(&mut self, entry: &Entry) -> bool {
        let index = match self.open(&entry.revision) {
            Ok(index) => Arc::new(index),
            Err(error) => {
                tracing::error!("{}: {error:#}; the site stays as it was", entry.site);
                return false;
            }
        };
        if self.addresses.get(&entry.site) != Some(&entry.address) {
            self.remove(&entry.site);
        }
        let Address { host, prefix } = &entry.address;
        if entry.site.preview().is_some() {
            self.mounts.insert_unlisted(host, prefix, index);
        } else {
            self.mounts.insert(host, prefix, index);
        }
        self.owners.insert(entry.address.clone(), entry.site.clone());
        self.addresses.insert(entry.site.clone(), entry.address.clone());
        true
    }

    fn remove(&mut self, site: &SiteKey) {
        let Some(address) = self.addresses.remove(site) else { return };
        if self.owners.get(&address) == Some(site) {
            self.owners.remove(&address);
            self.mounts.remove(&address.host, &address.prefix);
        }
    }

    fn open(&self, revision: &Digest) -> Result<Index> {
        pack::open::load(&self.store.pack(revision), MEMORY)
    }
}

/// Publishes changes to the workers.
pub(super) struct Publisher {
    sites: Sites,
    shared: Arc<Shared>,
    limits: Limits,
    /// True once the table is known: from the last run or from the syncer.
    is_known: bool,
    is_connected: bool,
}

impl Publisher {
    pub(super) fn new(sites: Sites, shared: Arc<Shared>, limits: Limits) -> Self {
        let is_known = !sites.addresses.is_empty();
        Self { sites, shared, limits, is_known, is_connected: false }
    }
}

impl Observer for Publisher {
    fn changed(&mut self, table: &Table, sites: &[SiteKey]) {
        let unopened = self.sites.adopt(table, sites);
        let content = Content::Mounts(self.sites.mounts.clone());
        let is_whole = self.is_known;
        self.shared.publish(State { content, limits: self.limits.clone(), is_whole });
        if self.shared.in_use() > RETIRED_MAX {
            self.shared.cut_retired();
        }
        let first = sites.first().map(ToString::to_string);
        tracing::info!(sites = sites.len(), unopened, first, "changed");
    }

    fn state(&mut self, state: follow::State) {
        if state.is_connected != self.is_connected {
            self.is_connected = state.is_connected;
            if state.is_connected {
                tracing::info!("the syncer answers");
            } else {
                tracing::warn!("the syncer is away; the sites stay as they are");
            }
        }
        if state.is_connected && state.behind == 0 && !self.is_known {
            self.is_known = true;
            self.shared.set_whole(true);
        }
    }

    fn is_over(&self) -> bool {
        self.shared.is_stopping()
    }
}
