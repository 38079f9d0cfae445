//! The state that all tasks share.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::{Notify, watch};

use crate::git::remote::Fetcher;
use crate::key::SiteKey;
use crate::publish::store::Store;
use crate::queue::plan::{Bounds, Queue};
use crate::queue::saved::Saved;
use crate::syncer::desired::Desired;
use crate::syncer::feed::Feed;
use crate::syncer::metrics::Metrics;
use crate::syncer::options::Options;
use crate::table::{Changes, Entry, Pending};
use crate::webhook::seen::Seen;

/// The shared state.
#[derive(Debug)]
pub struct Shared {
    /// The command line.
    pub options: Options,
    /// Packs and revisions.
    pub store: Store,
    /// Fetches commits.
    pub fetcher: Fetcher,
    /// Numbers for Prometheus.
    pub metrics: Metrics,
    /// Wakes the task that takes sites from the queue.
    pub wake: Notify,
    /// Tells requests for the table that it has changed.
    pub news: watch::Sender<()>,
    inner: Mutex<Inner>,
}

/// The part behind a lock, which is never held during I/O.
#[derive(Debug)]
pub struct Inner {
    /// All sites of the cluster.
    pub sites: BTreeMap<SiteKey, Desired>,
    /// The order of fetches.
    pub queue: Queue,
    /// The times from before a restart.
    pub saved: Saved,
    /// The sites with a fetch that runs, also if they were removed in the meantime.
    pub busy: BTreeSet<SiteKey>,
    /// The table for servers.
    pub feed: Feed,
    /// The deliveries of webhooks.
    pub seen: Seen,
    /// True when all sites of the cluster are known. Before that, the table would lack sites.
    pub is_complete: bool,
}

impl Inner {
    /// Returns the changes of the table after a generation; nothing if the table is the same, or while
    /// the sites of the cluster are not known.
    #[must_use]
    pub fn changes(&self, after: &str) -> Option<Changes> {
        let mut changes = self.is_complete.then(|| self.feed.changes(after)).flatten()?;
        if changes.complete {
            changes.pending = self.pending().collect();
        }
        Some(changes)
    }

    /// Returns the sites that were published before, and whose packs this process has not built
    /// again: its disk is new.
    fn pending(&self) -> impl Iterator<Item = Pending> {
        let lost = self
            .sites
            .values()
            .filter(|site| site.status.revision.is_some() && !self.feed.has(&site.key));
        lost.filter_map(|site| {
            Some(Pending { site: site.key.clone(), address: site.address.clone()? })
        })
    }
}

/// Returns the time since 1970.
#[must_use]
pub fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

impl Shared {
    /// Creates the state of a process.
    #[must_use]
    pub fn new(options: Options, store: Store, fetcher: Fetcher, saved: Saved) -> Self {
        let all = options.fetches.max(1);
        let bounds = Bounds { all, namespace: all.div_ceil(2) };
        let inner = Inner {
            sites: BTreeMap::new(),
            queue: Queue::new(bounds),
            saved,
            busy: BTreeSet::new(),
            feed: Feed::new(&format!("{:x}", now().as_nanos())),
            seen: Seen::default(),
            is_complete: false,
        };
        Self {
            options,
            store,
            fetcher,
            metrics: Metrics::default(),
            wake: Notify::new(),
            news: watch::Sender::new(()),
            inner: Mutex::new(inner),
        }
    }

    /// Locks the inner part.
    pub fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns a site.
    #[must_use]
    pub fn site(&self, key: &SiteKey) -> Option<Desired> {
        self.inner().sites.get(key).cloned()
    }

    /// Adds or changes a site.
    pub fn apply(&self, site: &Desired) {
        let now = now();
        let mut inner = self.inner();
        let Inner { sites, queue, saved, .. } = &mut *inner;
        let key = site.key.clone();
        let before = sites.insert(key.clone(), site.clone());
        match before {
            None => queue.add(&key, site.interval, saved.get(&key), now),
            Some(before) => {
                queue.add(&key, site.interval, None, now);
                if site.needs_fetch(&before) {
                    queue.request(&key, now);
                }
            }
        }
        drop(inner);
        self.wake.notify_one();
    }

    /// Forgets a site. The caller removes its revisions.
    pub fn forget(&self, key: &SiteKey) {
        let mut inner = self.inner();
        inner.sites.remove(key);
        inner.queue.remove(key);
        drop(inner);
        self.offer(key);
    }

    /// Makes a site due at once. Returns false if it is unknown.
    pub fn request(&self, key: &SiteKey) -> bool {
        let known = self.inner().queue.request(key, now());
        self.wake.notify_one();
        known
    }

    /// Brings the entry of a site in the table up to date.
    pub fn offer(&self, key: &SiteKey) {
        let manifest = self.store.manifest(key);
        let mut inner = self.inner();
        let address = inner.sites.get(key).and_then(|site| site.address.clone());
        let revision = manifest.as_ref().and_then(|manifest| manifest.current());
        let entry = address.zip(revision).map(|(address, revision)| Entry {
            site: key.clone(),
            address,
            revision: revision.digest,
            bytes: revision.bytes,
        });
        let is_new = inner.feed.set(key, entry);
        drop(inner);
        if is_new {
            self.news.send_replace(());
        }
    }
}
