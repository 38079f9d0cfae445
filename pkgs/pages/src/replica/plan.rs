//! The decisions of a replica, without I/O: time comes in as an argument.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use crate::digest::Digest;
use crate::key::SiteKey;
use crate::table::{Changes, Entry, Table};

/// The pauses after failed transfers of a revision: the first one, doubled each time up to the
/// last one.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LAST_PAUSE: Duration = Duration::from_mins(1);

/// The sites of a syncer, and the part of them that can be served.
///
/// A site whose new revision has not arrived keeps the old one, and no site waits for another.
/// The address of a site changes together with its revision, so that no name ever shows content
/// that was meant for another one.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    wanted: Table,
    served: Table,
    failures: BTreeMap<Digest, Failure>,
}

/// The failed transfers of a revision.
#[derive(Debug, Clone, Copy)]
struct Failure {
    count: u32,
    retry: Instant,
}

/// A revision to transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Transfer {
    /// The revision.
    pub revision: Digest,
    /// The size of its pack in bytes.
    pub bytes: u64,
}

impl Plan {
    /// Starts with the table of an earlier run, all of whose revisions are on the disk.
    #[must_use]
    pub fn new(served: Table) -> Self {
        Self { wanted: served.clone(), served, failures: BTreeMap::new() }
    }

    /// Returns the sites that can be served.
    #[must_use]
    pub const fn served(&self) -> &Table {
        &self.served
    }

    /// Applies the syncer's changes. Returns the sites whose service changes at once: those that
    /// are gone, and those whose revision is one of `present`.
    pub fn learn(&mut self, changes: Changes, present: impl Fn(&Digest) -> bool) -> Vec<SiteKey> {
        let mut affected = self.wanted.apply(changes);
        affected.retain(|site| match self.wanted.sites.get(site) {
            None => self.served.sites.remove(site).is_some(),
            Some(entry) if present(&entry.revision) => serve(&mut self.served, entry),
            Some(_) => false,
        });
        let wanted: BTreeSet<_> = self.missing().map(|transfer| transfer.revision).collect();
        self.failures.retain(|revision, _| wanted.contains(revision));
        affected
    }

    /// Records that a revision is on the disk; returns the sites that it belongs to.
    pub fn arrived(&mut self, revision: &Digest) -> Vec<SiteKey> {
        self.failures.remove(revision);
        let entries = self.wanted.sites.values().filter(|entry| entry.revision == *revision);
        let served = &mut self.served;
        entries.filter(|entry| serve(served, entry)).map(|entry| entry.site.clone()).collect()
    }

    /// Records that a transfer failed.
    pub fn failed(&mut self, revision: Digest, now: Instant) {
        let count = self.failures.get(&revision).map_or(0, |failure| failure.count) + 1;
        let pause = FIRST_PAUSE.saturating_mul(1 << (count - 1).min(16)).min(LAST_PAUSE);
        self.failures.insert(revision, Failure { count, retry: now + pause });
    }

    /// Returns the transfers whose time has come, each revision once.
    #[must_use]
    pub fn due(&self, now: Instant) -> BTreeSet<Transfer> {
        let is_due = |transfer: &Transfer| {
            self.failures.get(&transfer.revision).is_none_or(|failure| failure.retry <= now)
        };
        self.missing().filter(is_due).collect()
    }

    /// Returns the time of the next retry, if there is one.
    #[must_use]
    pub fn next_retry(&self) -> Option<Instant> {
        self.failures.values().map(|failure| failure.retry).min()
    }

    /// Returns the revisions that must stay on the disk: those that are served, and those that are
    /// wanted and may have arrived.
    #[must_use]
    pub fn kept(&self) -> BTreeSet<Digest> {
        let entries = self.served.sites.values().chain(self.wanted.sites.values());
        entries.map(|entry| entry.revision).collect()
    }

    /// Returns the number of sites that do not show what the syncer has.
    #[must_use]
    pub fn behind(&self) -> usize {
        self.missing().count()
    }

    fn missing(&self) -> impl Iterator<Item = Transfer> {
        let entries = self.wanted.sites.values();
        let missing = entries.filter(|entry| self.served.sites.get(&entry.site) != Some(entry));
        missing.map(|entry| Transfer { revision: entry.revision, bytes: entry.bytes })
    }
}

/// Adds an entry to the served table; returns false if it was there before.
fn serve(served: &mut Table, entry: &Entry) -> bool {
    served.sites.insert(entry.site.clone(), entry.clone()).as_ref() != Some(entry)
}

#[cfg(test)]
mod tests {
    use super::{FIRST_PAUSE, LAST_PAUSE, Plan};
    use crate::digest::Digest;
    use crate::key::SiteKey;
    use crate::table::{Address, Changes, Entry, Table};
    use std::time::{Duration, Instant};

    fn key(name: &str) -> SiteKey {
        SiteKey::new("team", name).unwrap()
    }

    fn entry(name: &str, content: &str) -> Entry {
        let address = Address { host: format!("{name}.example"), prefix: String::new() };
        Entry { site: key(name), address, revision: Digest::of(content.as_bytes()), bytes: 9 }
    }

    fn changes(sites: &[(&str, &str)], complete: bool) -> Changes {
        let sites = sites.iter().map(|(name, content)| entry(name, content)).collect();
        Changes { complete, sites, ..Changes::default() }
    }

    fn served(plan: &Plan) -> Vec<(&str, Digest)> {
        let entries = plan.served().sites.values();
        entries.map(|entry| (entry.site.name(), entry.revision)).collect()
    }

    #[test]
    fn a_site_keeps_its_old_revision_until_the_new_one_is_here() {
        let (old, new) = (Digest::of(b"old"), Digest::of(b"new"));
        let mut plan = Plan::new(Table::default());
        let now = Instant::now();
        assert_eq!(plan.learn(changes(&[("a", "old"), ("b", "old")], true), |_| false), []);
        assert_eq!((plan.due(now).len(), plan.behind()), (1, 2), "one revision of two sites");
        assert_eq!(plan.arrived(&old), [key("a"), key("b")]);
        assert_eq!(plan.learn(changes(&[("a", "new")], false), |_| false), []);
        assert_eq!(served(&plan), [("a", old), ("b", old)]);
        assert_eq!(plan.kept().len(), 2);
        assert_eq!(plan.arrived(&new), [key("a")]);
        assert_eq!(plan.arrived(&new), [], "a second arrival changes nothing");
        assert_eq!(served(&plan), [("a", new), ("b", old)]);
        assert_eq!(plan.due(now).len(), 0);
    }

    #[test]
    fn a_site_that_is_gone_is_gone_at_once() {
        let mut plan = Plan::new(Table::default());
        plan.learn(changes(&[("a", "x"), ("b", "x")], true), |_| true);
        let removed = Changes { removed: vec![key("a"), key("c")], ..Changes::default() };
        assert_eq!(plan.learn(removed, |_| true), [key("a")]);
        assert_eq!(plan.learn(changes(&[], true), |_| true), [key("b")]);
        assert!(plan.kept().is_empty());
    }

    #[test]
    fn a_revision_that_is_on_the_disk_is_served_at_once() {
        let mut plan = Plan::new(Table::default());
        plan.learn(changes(&[("a", "1")], true), |_| true);
        let moved = changes(&[("a", "2")], false);
        assert_eq!(plan.learn(moved.clone(), |_| true), [key("a")]);
        assert_eq!(plan.learn(moved, |_| true), []);
    }

    #[test]
    fn failed_transfers_are_retried_with_growing_pauses_and_hold_up_no_other() {
        let now = Instant::now();
        let bad = Digest::of(b"bad");
        let mut plan = Plan::new(Table::default());
        plan.learn(changes(&[("a", "bad"), ("b", "good")], true), |_| false);
        plan.failed(bad, now);
        assert_eq!(plan.due(now).len(), 1);
        assert_eq!(plan.next_retry(), Some(now + FIRST_PAUSE));
        assert_eq!(plan.due(now + FIRST_PAUSE).len(), 2);
        let pauses: Vec<Duration> = (0..99)
            .map(|_| {
                plan.failed(bad, now);
                plan.next_retry().unwrap() - now
            })
            .collect();
        assert!(pauses.is_sorted());
        assert_eq!(pauses.last(), Some(&LAST_PAUSE));
        plan.learn(changes(&[("a", "good")], false), |_| false);
        assert_eq!(plan.next_retry(), None, "the revision is not wanted any more");
    }
}
