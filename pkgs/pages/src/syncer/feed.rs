//! The changes of a table of sites, for readers that follow it. Pure.
//!
//! Servers follow the entries of sites, and a second syncer follows the manifests.

use std::collections::BTreeMap;

use crate::key::SiteKey;

/// The most removed sites that are remembered. A reader that missed more gets the complete list.
const REMOVED_MAX: usize = 10_000;

/// The table with a generation for each change.
#[derive(Debug)]
pub struct Feed<T> {
    /// Differs between processes.
    epoch: String,
    generation: u64,
    sites: BTreeMap<SiteKey, (u64, T)>,
    removed: BTreeMap<u64, SiteKey>,
    /// The first generation after which all removals are remembered.
    oldest: u64,
}

/// The changes after a generation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delta<T> {
    /// The generation that the reader has afterwards.
    pub generation: String,
    /// True if `sites` has all sites and replaces the reader's table.
    pub complete: bool,
    /// The sites that are new or different.
    pub sites: Vec<(SiteKey, T)>,
    /// The sites that are gone.
    pub removed: Vec<SiteKey>,
}

impl<T: Clone + PartialEq> Feed<T> {
    /// Creates an empty table for a process.
    #[must_use]
    pub fn new(epoch: &str) -> Self {
        Self {
            epoch: epoch.to_owned(),
            generation: 1,
            sites: BTreeMap::new(),
            removed: BTreeMap::new(),
            oldest: 1,
        }
    }

    /// Sets or removes the entry of a site. Returns true if that changes the table.
    pub fn set(&mut self, site: &SiteKey, entry: Option<T>) -> bool {
        let known = self.sites.get(site).map(|(_, entry)| entry);
        if known == entry.as_ref() {
            return false;
        }
        self.generation += 1;
        if let Some(entry) = entry {
            self.sites.insert(site.clone(), (self.generation, entry));
        } else {
            self.sites.remove(site);
            self.removed.insert(self.generation, site.clone());
        }
        self.trim();
        true
    }

    fn trim(&mut self) {
        if self.removed.len() > REMOVED_MAX
            && let Some((generation, _)) = self.removed.pop_first()
        {
            self.oldest = generation;
        }
    }

    /// Returns the changes after a generation; nothing if the table is the same. The complete list answers a
    /// generation that is unknown, empty or too old.
    #[must_use]
    pub fn changes(&self, after: &str) -> Option<Delta<T>> {
        let known = after.strip_prefix(&self.epoch).and_then(|rest| rest.strip_prefix('-'));
        let known = known.and_then(|text| text.parse::<u64>().ok());
        let known = known.filter(|number| (self.oldest..=self.generation).contains(number));
        if known == Some(self.generation) {
            return None;
        }
        let after = known.unwrap_or(0);
        let sites = self.sites.iter().filter(|(_, (generation, _))| *generation > after);
        let removed = self.removed.range(after + 1..).map(|(_, site)| site);
        let removed = removed.filter(|site| known.is_some() && !self.sites.contains_key(*site));
        Some(Delta {
            generation: format!("{}-{}", self.epoch, self.generation),
            complete: known.is_none(),
            sites: sites.map(|(site, (_, entry))| (site.clone(), entry.clone())).collect(),
            removed: removed.cloned().collect(),
        })
    }

    /// Records that a site is gone, also one that is not in the table: a reader may have kept it, because
    /// the complete list called it pending.
    pub fn forget(&mut self, site: &SiteKey) {
        if !self.set(site, None) {
            self.generation += 1;
            self.removed.insert(self.generation, site.clone());
            self.trim();
        }
    }

    /// Returns the previews of a site that are in the table.
    #[must_use]
    pub fn previews(&self, site: &SiteKey) -> Vec<SiteKey> {
        let from = self.sites.range(site.site()..).map(|(key, _)| key);
        let own = from.take_while(|key| key.site() == site.site());
        own.filter(|key| key.preview().is_some()).cloned().collect()
    }

    /// True if a site is in the table.
    #[must_use]
    pub fn has(&self, site: &SiteKey) -> bool {
        self.sites.contains_key(site)
    }

    /// Returns the number of sites.
    #[must_use]
    pub fn len(&self) -> usize {
        self.sites.len()
    }

    /// True if no site is served.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sites.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::{Delta, Feed, REMOVED_MAX};
    use crate::digest::Digest;
    use crate::key::SiteKey;
    use crate::table::{Address, Changes, Entry, Table};
    use proptest::prelude::*;

    fn key(number: usize) -> SiteKey {
        SiteKey::new("team", &format!("s{number}")).unwrap()
    }

    fn entry(number: usize, content: u8) -> Entry {
        let address = Address { host: format!("s{number}.example"), prefix: String::new() };
        Entry { site: key(number), address, revision: Digest::of(&[content]), bytes: 1 }
    }

    fn changes(delta: Delta<Entry>) -> Changes {
        let Delta { generation, complete, sites, removed } = delta;
        let sites = sites.into_iter().map(|(_, entry)| entry).collect();
        Changes { generation, complete, sites, removed, pending: Vec::new() }
    }

    #[test]
    fn a_reader_gets_what_is_new_to_it() {
        let mut feed = Feed::new("e");
        assert!(feed.set(&key(1), Some(entry(1, 1))) && !feed.set(&key(1), Some(entry(1, 1))));
        let first = feed.changes("").unwrap();
        assert!(first.complete && first.sites.len() == 1);
        assert_eq!(feed.changes(&first.generation), None);
        feed.set(&key(2), Some(entry(2, 1)));
        feed.set(&key(1), None);
        let next = feed.changes(&first.generation).unwrap();
        assert_eq!((next.complete, next.removed), (false, vec![key(1)]));
        assert_eq!(next.sites, [(key(2), entry(2, 1))]);
        for other in ["f-2", "e-99", "e-", "e-0", "2", &first.generation.replace('e', "g")] {
            assert!(feed.changes(other).unwrap().complete, "{other}");
        }
    }

    #[test]
    fn a_site_that_a_reader_kept_as_pending_is_removed_too() {
        let mut feed = Feed::new("e");
        let first = feed.changes("").unwrap();
        feed.forget(&key(1));
        assert_eq!(feed.changes(&first.generation).unwrap().removed, [key(1)]);
        feed.set(&key(2), Some(entry(2, 1)));
        let preview = key(2).with_preview("next").unwrap();
        feed.set(&preview, Some(Entry { site: preview.clone(), ..entry(2, 2) }));
        feed.set(&key(3), Some(entry(3, 1)));
        assert_eq!(feed.previews(&key(2)), [preview]);
        assert_eq!(feed.previews(&key(3)), []);
    }

    #[test]
    fn a_reader_that_missed_too_much_gets_all() {
        let mut feed = Feed::new("e");
        let first = feed.changes("").unwrap().generation;
        for _ in 0..=REMOVED_MAX {
            feed.set(&key(1), Some(entry(1, 1)));
            feed.set(&key(1), None);
        }
        assert!(feed.changes(&first).unwrap().complete);
    }

    proptest! {
        #[test]
        fn readers_that_follow_have_the_same_table(
            steps in proptest::collection::vec((0_usize..4, 0_u8..3, any::<bool>()), 0..60)
        ) {
            let mut feed = Feed::new("e");
            let (mut follower, mut generation) = (Table::default(), String::new());
            for (site, content, looks) in steps {
                feed.set(&key(site), (content > 0).then(|| entry(site, content)));
                if looks && let Some(delta) = feed.changes(&generation) {
                    generation.clone_from(&delta.generation);
                    follower.apply(changes(delta));
                }
            }
            if let Some(delta) = feed.changes(&generation) {
                follower.apply(changes(delta));
            }
            let mut fresh = Table::default();
            fresh.apply(changes(feed.changes("").unwrap()));
            prop_assert_eq!(follower, fresh);
        }
    }
}
