//! The table of sites that the syncer offers and the servers follow.
//!
//! The syncer answers `GET /v1/sites?after=GENERATION` with the changes since a generation;
//! [`Table::apply`] adds them to a reader's table.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::key::SiteKey;

/// The place of a site among all names of the cluster.
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub struct Address {
    /// The host name: lower case, without a port and a final dot.
    pub host: String,
    /// The path below which the site lies: empty, or with a slash at the start and none at the end.
    pub prefix: String,
}

/// A site with the revision that is in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The site.
    pub site: SiteKey,
    /// Its address, which the operator has accepted.
    pub address: Address,
    /// The digest of its pack.
    pub revision: Digest,
    /// The size of its pack in bytes.
    pub bytes: u64,
}

/// The changes of the table after a generation.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changes {
    /// The generation that the reader has afterwards, for its next request.
    pub generation: String,
    /// True if `sites` has all sites and replaces the reader's table.
    pub complete: bool,
    /// The sites that are new or different.
    pub sites: Vec<Entry>,
    /// The sites that are gone.
    #[serde(default)]
    pub removed: Vec<SiteKey>,
    /// In a complete list, the sites whose revision the syncer has lost and not yet built again. A
    /// reader keeps the revision that it has.
    #[serde(default)]
    pub pending: Vec<Pending>,
}

/// A site that has an address and no revision at present.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pending {
    /// The site.
    pub site: SiteKey,
    /// Its address. A reader that knows another address does not keep the site.
    pub address: Address,
}

/// All sites, as a reader knows them. Serialised, it is the file from which a server starts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Table {
    /// The sites.
    pub sites: BTreeMap<SiteKey, Entry>,
}

impl Table {
    /// Applies changes, and returns the sites that differ from before.
    pub fn apply(&mut self, changes: Changes) -> Vec<SiteKey> {
        let mut old =
            if changes.complete { std::mem::take(&mut self.sites) } else { BTreeMap::new() };
        for Pending { site, address } in changes.pending {
            if let Some(entry) = old.remove(&site).filter(|entry| entry.address == address) {
                self.sites.insert(site, entry);
            }
        }
        let mut different = Vec::new();
        for entry in changes.sites {
            let site = entry.site.clone();
            let before = old.remove(&site).or_else(|| self.sites.get(&site).cloned());
            if before.as_ref() != Some(&entry) {
                different.push(site.clone());
            }
            self.sites.insert(site, entry);
        }
        different.extend(old.into_keys());
        different
            .extend(changes.removed.into_iter().filter(|site| self.sites.remove(site).is_some()));
        different
    }
}

#[cfg(test)]
mod tests {
    use super::{Address, Changes, Entry, Pending, Table};
    use crate::digest::Digest;
    use crate::key::SiteKey;

    fn entry(name: &str, content: &[u8]) -> Entry {
        Entry {
            site: key(name),
            address: Address { host: format!("{name}.example"), prefix: String::new() },
            revision: Digest::of(content),
            bytes: 3,
        }
    }

    fn key(name: &str) -> SiteKey {
        SiteKey::new("team", name).unwrap()
    }

    fn names(changed: &[SiteKey]) -> Vec<&str> {
        changed.iter().map(SiteKey::name).collect()
    }

    #[test]
    fn changes_add_replace_and_remove() {
        let mut table = Table::default();
        let sites = vec![entry("a", b"1"), entry("b", b"1")];
        let changes = Changes { complete: true, sites, ..Changes::default() };
        assert_eq!(names(&table.apply(changes)), ["a", "b"]);
        let sites = vec![entry("a", b"2"), entry("b", b"1"), entry("c", b"1")];
        let changes = Changes { sites, removed: vec![key("d")], ..Changes::default() };
        assert_eq!(names(&table.apply(changes)), ["a", "c"]);
        let changes = Changes { removed: vec![key("b")], ..Changes::default() };
        assert_eq!(names(&table.apply(changes)), ["b"]);
        assert_eq!(table.sites.len(), 2);
    }

    #[test]
    fn a_complete_list_removes_the_sites_that_it_lacks() {
        let mut table = Table::default();
        let sites = vec![entry("a", b"1"), entry("b", b"1")];
        table.apply(Changes { sites, ..Changes::default() });
        let changes =
            Changes { complete: true, sites: vec![entry("b", b"1")], ..Changes::default() };
        assert_eq!(names(&table.apply(changes)), ["a"]);
        assert_eq!(table.sites.len(), 1);
    }

    #[test]
    fn a_site_whose_revision_the_syncer_has_lost_stays_at_its_address() {
        let mut table = Table::default();
        let sites = vec![entry("a", b"1"), entry("b", b"1"), entry("c", b"1")];
        table.apply(Changes { sites, ..Changes::default() });
        let pending = |name: &str, host: &str| Pending {
            site: key(name),
            address: Address { host: host.to_owned(), prefix: String::new() },
        };
        let pending = vec![pending("a", "a.example"), pending("b", "other"), pending("d", "d")];
        let changes = Changes { complete: true, pending, ..Changes::default() };
        table.apply(changes);
        assert_eq!(names(&table.sites.into_keys().collect::<Vec<_>>()), ["a"]);
    }

    #[test]
    fn the_json_is_that_of_the_decision() {
        let changes = Changes {
            generation: "7".to_owned(),
            complete: false,
            sites: vec![entry("a", b"")],
            removed: vec![key("b")],
            pending: Vec::new(),
        };
        let text = serde_json::to_string(&changes).unwrap();
        let revision = Digest::of(b"");
        let expected = format!(
            r#"{{"generation":"7","complete":false,"sites":[{{"site":"team/a","address":{{"host":"a.example","prefix":""}},"revision":"{revision}","bytes":3}}],"removed":["team/b"],"pending":[]}}"#
        );
        assert_eq!(text, expected);
        assert_eq!(serde_json::from_str::<Changes>(&text).unwrap(), changes);
    }
}
