//! The state that all tasks share.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use kiln_base::replace::{self, Durability};
use tokio::sync::{Notify, watch};

use crate::digest::Digest;
use crate::git::remote::Fetcher;
use crate::key::SiteKey;
use crate::previews::wish::Wish;
use crate::publish::store::Store;
use crate::queue::plan::{Bounds, Queue};
use crate::queue::saved::Saved;
use crate::syncer::desired::Desired;
use crate::syncer::feed::{Delta, Feed};
use crate::syncer::ledger::Ledger;
use crate::syncer::metrics::Metrics;
use crate::syncer::options::Options;
use crate::syncer::previews::Previews;
use crate::table::{Changes, Entry, Pending};
use crate::webhook::seen::Seen;

/// The file with the times of the queue.
pub const QUEUE: &str = "queue.json";

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
    /// The previews of all sites.
    pub previews: Previews,
    /// Tells requests for the table that it has changed.
    pub news: watch::Sender<()>,
    /// The place of this syncer among several.
    pub place: watch::Sender<Place>,
    /// Wakes the task that passes requests on to the leader.
    pub passing: Notify,
    /// True once all revisions of a leader have been copied, or were on the disk at the start.
    pub is_whole: AtomicBool,
    /// True while the API server does not confirm the lead.
    pub is_unsure: AtomicBool,
    inner: Mutex<Inner>,
}

/// The place of a syncer among several.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// No leader is known.
    Waits,
    /// Another syncer leads, at this address.
    Follows(SocketAddr),
    /// This one leads: it fetches, publishes, and answers with the table.
    Leads,
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
    pub feed: Feed<Entry>,
    /// The manifests for other syncers, each as the digest of its bytes.
    pub copies: Feed<Digest>,
    /// The sites whose status names a revision that this process lacks: it was published by another
    /// syncer. Servers keep what they have of them until the next fetch.
    pub behind: BTreeSet<SiteKey>,
    /// The sites with requests that must be passed on to the leader.
    pub requested: BTreeSet<SiteKey>,
    /// The sites with an upload that runs.
    pub uploads: BTreeSet<SiteKey>,
    /// The numbers of recent events.
    pub events: Ledger,
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
        let delta = self.is_complete.then(|| self.feed.changes(after)).flatten()?;
        let Delta { generation, complete, sites, removed } = delta;
        let sites = sites.into_iter().map(|(_, entry)| entry).collect();
        let pending = if complete { self.pending().collect() } else { Vec::new() };
        Some(Changes { generation, complete, sites, removed, pending })
    }

    /// Returns the sites that were published before, and whose packs this process has not built
    /// again: its disk is new.
    fn pending(&self) -> impl Iterator<Item = Pending> {
        let lost = self
            .sites
            .values()
            .filter(|site| site.status.revision.is_some() && !self.feed.has(&site.key));
        let lost = lost.filter_map(|site| {
            Some(Pending { site: site.key.clone(), address: site.address.clone()? })
        });
        let previews = self.sites.values().flat_map(Desired::published_previews);
        lost.chain(previews.filter(|preview| !self.feed.has(&preview.site)))
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
        let epoch = format!("{:x}", now().as_nanos());
        let inner = Inner {
            sites: BTreeMap::new(),
            queue: Queue::new(bounds),
            requested: saved.requested.clone(),
            saved,
            busy: BTreeSet::new(),
            feed: Feed::new(&epoch),
            copies: Feed::new(&epoch),
            behind: BTreeSet::new(),
            uploads: BTreeSet::new(),
            events: Ledger::default(),
            seen: Seen::default(),
            is_complete: false,
        };
        let place = if options.address.is_some() { Place::Waits } else { Place::Leads };
        Self {
            is_whole: AtomicBool::new(!store.sites().is_empty()),
            options,
            store,
            fetcher,
            metrics: Metrics::default(),
            wake: Notify::new(),
            previews: Previews::new(all),
            news: watch::Sender::new(()),
            place: watch::Sender::new(place),
            passing: Notify::new(),
            is_unsure: AtomicBool::new(false),
            inner: Mutex::new(inner),
        }
    }

    /// Locks the inner part.
    pub fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// True if this syncer leads.
    #[must_use]
    pub fn leads(&self) -> bool {
        *self.place.borrow() == Place::Leads
    }

    /// Returns a site.
    #[must_use]
    pub fn site(&self, key: &SiteKey) -> Option<Desired> {
        self.inner().sites.get(key).cloned()
    }

    /// True if a site, or the site of a preview, still wants what was fetched.
    #[must_use]
    pub fn is_current(&self, fetched: &Desired) -> bool {
        let Some(site) = self.site(&fetched.key.site()) else { return false };
        if fetched.key.preview().is_none() {
            return !site.needs_fetch(fetched);
        }
        let site = Desired { branch: fetched.branch.clone(), ..site };
        site.previews.is_some() && !site.needs_fetch(fetched)
    }

    /// Returns the sites of a namespace that want previews.
    #[must_use]
    pub fn with_previews(&self, namespace: &str) -> Vec<(SiteKey, Wish)> {
        let inner = self.inner();
        let sites = inner.sites.values().filter(|site| site.key.namespace() == namespace);
        sites.filter_map(|site| Some((site.key.clone(), site.previews.clone()?))).collect()
    }

    /// Adds or changes a site.
    pub fn apply(&self, site: &Desired) {
        let now = now();
        let mut inner = self.inner();
        let Inner { sites, queue, saved, .. } = &mut *inner;
        let key = site.key.clone();
        let before = sites.insert(key.clone(), site.clone());
        let is_first = before.is_none();
        self.previews.follow(site, before.as_ref(), now);
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
        if is_first {
            self.judge(&key);
        }
        self.wake.notify_one();
    }

    /// Compares a site's status with the revisions here.
    ///
    /// A leader that is behind would show servers an older revision than they have. Only for a site that
    /// no reader has got from this process, because the others would lose it.
    pub fn judge(&self, key: &SiteKey) {
        let manifest = self.store.manifest(key);
        let mut inner = self.inner();
        let status = inner.sites.get(key).and_then(|site| site.status.revision.clone());
        let has = |digest: &str| {
            let revisions = manifest.iter().flat_map(|manifest| &manifest.revisions);
            revisions.into_iter().any(|revision| revision.digest.to_string() == digest)
        };
        if status.is_some_and(|revision| !has(&revision.digest)) {
            inner.behind.insert(key.clone());
        } else {
            inner.behind.remove(key);
        }
    }

    /// Forgets a site. The caller removes its revisions.
    pub fn forget(&self, key: &SiteKey) {
        let mut inner = self.inner();
        inner.sites.remove(key);
        inner.queue.remove(key);
        inner.behind.remove(key);
        inner.requested.remove(key);
        inner.feed.forget(key);
        inner.copies.set(key, None);
        for preview in inner.feed.previews(key) {
            inner.feed.forget(&preview);
        }
        drop(inner);
        self.previews.forget(key);
        self.news.send_replace(());
    }

    /// Forgets the revision that the status of a site shows, after it was removed on request.
    pub fn forget_revision(&self, key: &SiteKey) {
        let mut inner = self.inner();
        inner.behind.remove(key);
        if let Some(site) = inner.sites.get_mut(key) {
            site.status.revision = None;
        }
    }

    /// Makes a site due at once. Returns false if it is unknown.
    ///
    /// A syncer that follows remembers the request, on its disk too, until the leader has it.
    pub fn request(&self, key: &SiteKey) -> bool {
        let leads = self.leads();
        let mut inner = self.inner();
        let known = inner.queue.request(key, now());
        if known && !leads {
            inner.requested.insert(key.clone());
        }
        drop(inner);
        self.wake.notify_one();
        if known && !leads {
            self.save();
            self.passing.notify_one();
        }
        known
    }

    /// Writes the times of the queue to the disk.
    pub fn save(&self) {
        let saved = {
            let inner = self.inner();
            let mut saved = inner.queue.save(now());
            saved.requested.clone_from(&inner.requested);
            saved
        };
        let path = self.options.data.join(QUEUE);
        if let Err(error) = replace::write(&path, &saved.bytes(), 0o640, Durability::File) {
            tracing::warn!("cannot save the queue: {error}");
        }
    }

    /// Returns the entries of a site's previews: those with a revision and an address.
    fn preview_entries(&self, site: &Desired) -> BTreeMap<SiteKey, Entry> {
        let entries = site.published_previews().filter_map(|Pending { site: key, address }| {
            let manifest = self.store.manifest(&key)?;
            let revision = manifest.current()?;
            let (revision, bytes) = (revision.digest, revision.bytes);
            Some((key.clone(), Entry { site: key, address, revision, bytes }))
        });
        entries.collect()
    }

    /// Brings the entries of a site and its previews in the table up to date.
    pub fn offer(&self, key: &SiteKey) {
        let manifest = self.store.manifest(key);
        let mark = manifest.as_ref().and_then(|manifest| serde_json::to_vec(manifest).ok());
        let mark = mark.map(|bytes| Digest::of(&bytes));
        let site = self.site(key);
        let mut previews = site.map(|site| self.preview_entries(&site)).unwrap_or_default();
        let mut inner = self.inner();
        let address = inner.sites.get(key).and_then(|site| site.address.clone());
        let revision = manifest.as_ref().and_then(|manifest| manifest.current());
        let revision = revision.filter(|_| !inner.behind.contains(key));
        let entry = address.zip(revision).map(|(address, revision)| Entry {
            site: key.clone(),
            address,
            revision: revision.digest,
            bytes: revision.bytes,
        });
        let mut is_new = inner.feed.set(key, entry) | inner.copies.set(key, mark);
        for known in inner.feed.previews(key) {
            is_new |= inner.feed.set(&known, previews.remove(&known));
        }
        for (preview, entry) in previews {
            is_new |= inner.feed.set(&preview, Some(entry));
        }
        drop(inner);
        if is_new {
            self.news.send_replace(());
        }
    }
}
