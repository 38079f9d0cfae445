//! The previews of all sites: references that are looked at, fetched and published apart from the sites
//! themselves.
//!
//! Previews have places of their own in the queue, a quarter of those of sites, so they delay no site.
//!
//! | module | content | touches |
//! | --- | --- | --- |
//! | [`look`] | one look at the references of a site | git, the disk |
//! | [`report`] | the syncer's part of the previews in a site's status | nothing |
//! | [`tasks`] | the tasks | all of them |

pub mod look;
pub mod report;
pub mod tasks;

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use crate::key::SiteKey;
use crate::previews::reference::Reference;
use crate::previews::state::State;
use crate::queue::plan::{Bounds, End, Queue};
use crate::syncer::desired::Desired;

/// The previews of all sites.
#[derive(Debug)]
pub struct Previews {
    inner: Mutex<Inner>,
    /// Wakes the task that takes sites from the queue.
    pub wake: Notify,
}

/// The part behind a lock, which is never held during requests to a server.
#[derive(Debug)]
struct Inner {
    queue: Queue,
    states: BTreeMap<SiteKey, State>,
    /// The time at which the next preview of a site ends.
    ends: BTreeMap<SiteKey, Duration>,
    /// Pull requests that were announced and are not in a state yet, with true for a closed one.
    announced: BTreeMap<SiteKey, Vec<(Reference, bool)>>,
}

/// The most announcements that wait for a site's next look.
const ANNOUNCED_MAX: usize = 100;

impl Previews {
    /// Starts without previews; `fetches` is the number of places of sites.
    #[must_use]
    pub fn new(fetches: usize) -> Self {
        let all = (fetches / 4).max(1);
        let inner = Inner {
            queue: Queue::new(Bounds { all, namespace: all.div_ceil(2) }),
            states: BTreeMap::new(),
            ends: BTreeMap::new(),
            announced: BTreeMap::new(),
        };
        Self { inner: Mutex::new(inner), wake: Notify::new() }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a site over. One without a wish for previews is looked at only while its status shows some.
    pub fn follow(&self, site: &Desired, before: Option<&Desired>, now: Duration) {
        let mut inner = self.inner();
        if site.previews.is_none() && !report::shows(site) {
            inner.queue.remove(&site.key);
            return;
        }
        inner.queue.add(&site.key, site.interval, None, now);
        let is_other =
            |before: &Desired| before.previews != site.previews || site.needs_fetch(before);
        if before.is_some_and(is_other) {
            inner.queue.request(&site.key, now);
        }
        drop(inner);
        self.wake.notify_one();
    }

    /// Forgets a site.
    pub fn forget(&self, site: &SiteKey) {
        let mut inner = self.inner();
        inner.queue.remove(site);
        inner.states.remove(site);
        inner.ends.remove(site);
        inner.announced.remove(site);
    }

    /// Makes a site due at once. Returns false if it has no previews.
    pub fn request(&self, site: &SiteKey, now: Duration) -> bool {
        let known = self.inner().queue.request(site, now);
        self.wake.notify_one();
        known
    }

    /// Records that a pull request was opened or changed, or that it was closed, and makes the site due.
    pub fn announce(&self, site: &SiteKey, reference: Reference, is_closed: bool, now: Duration) {
        let mut inner = self.inner();
        let waiting = inner.announced.entry(site.clone()).or_default();
        if waiting.len() < ANNOUNCED_MAX {
            waiting.push((reference, is_closed));
        }
        drop(inner);
        self.request(site, now);
    }

    /// Takes the next site that is due, also because a preview of it has ended.
    fn take(&self, now: Duration) -> Option<SiteKey> {
        let mut inner = self.inner();
        let ended = inner.ends.extract_if(.., |_, end| *end <= now).map(|(site, _)| site);
        for site in ended.collect::<Vec<_>>() {
            inner.queue.request(&site, now);
        }
        inner.queue.take(now)
    }

    /// Returns the time at which the next site is due or the next preview ends.
    fn next(&self) -> Option<Duration> {
        let inner = self.inner();
        inner.queue.next().into_iter().chain(inner.ends.values().copied()).min()
    }

    fn done(&self, site: &SiteKey, end: End, now: Duration) {
        self.inner().queue.done(site, end, now);
        self.wake.notify_one();
    }

    /// Returns the number of sites with previews, and of looks that run.
    #[must_use]
    pub fn counts(&self) -> (usize, usize) {
        self.inner().queue.counts()
    }
}
