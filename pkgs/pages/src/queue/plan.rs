//! The queue.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::key::SiteKey;
use crate::queue::namespaces::Namespaces;
use crate::queue::saved::{Saved, State};
use crate::queue::wait::{GAP, after_failure, after_success, first};

/// The sites that wait and run. Times are durations since 1970.
#[derive(Debug)]
pub struct Queue {
    sites: BTreeMap<SiteKey, Site>,
    namespaces: Namespaces,
    running: usize,
    /// The most fetches at a time, and the most of one namespace.
    bounds: Bounds,
    /// Counts the fetches that were started, for fairness and jitter.
    started: u64,
}

/// Bounds of concurrency.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// The most fetches at a time.
    pub all: usize,
    /// The most fetches of one namespace at a time.
    pub namespace: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { all: 8, namespace: 4 }
    }
}

#[derive(Debug, Clone)]
struct Site {
    interval: Duration,
    due: Duration,
    failures: u32,
    last: Option<Duration>,
    running: bool,
    /// A request arrived while the site ran.
    again: bool,
}

/// The end of a fetch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The site is up to date.
    Success,
    /// Try again later.
    Failure,
}

impl Default for Queue {
    fn default() -> Self {
        Self::new(Bounds::default())
    }
}

impl Queue {
    /// Creates an empty queue.
    #[must_use]
    pub fn new(bounds: Bounds) -> Self {
        let namespaces = Namespaces::new(bounds.namespace);
        Self { sites: BTreeMap::new(), namespaces, running: 0, bounds, started: 0 }
    }

    /// Adds a site. One that was saved keeps its times; a new one is due at once.
    pub fn add(
        &mut self,
        site: &SiteKey,
        interval: Duration,
        saved: Option<&State>,
        now: Duration,
    ) {
        if let Some(known) = self.sites.get_mut(site) {
            known.interval = interval;
            return;
        }
        let (due, failures, last) = match saved {
            // A clock that was set back, or a file from elsewhere, must not delay a site for longer
            // than its interval.
            Some(State { due, failures, .. }) if *due > now + interval * 2 => {
                (now + first(site, interval), *failures, None)
            }
            Some(State { due, failures, last }) => (*due, *failures, *last),
            None => (now, 0, None),
        };
        let new = Site { interval, due, failures, last, running: false, again: false };
        self.namespaces.insert(site.namespace(), site.name(), due);
        self.sites.insert(site.clone(), new);
    }

    /// Makes a site due at once: after a webhook, a request of a person, or a change of its
    /// specification. Returns false if the site is unknown.
    pub fn request(&mut self, site: &SiteKey, now: Duration) -> bool {
        let Some(known) = self.sites.get_mut(site) else { return false };
        if known.running {
            known.again = true;
            return true;
        }
        let due = known.last.map_or(now, |last| now.max(last + GAP)).min(known.due.max(now));
        let old = std::mem::replace(&mut known.due, due);
        self.namespaces.remove(site.namespace(), site.name(), old);
        self.namespaces.insert(site.namespace(), site.name(), due);
        true
    }

    /// Brings every site forward, so that none waits longer than `within` or its interval. For a start
    /// that may have missed requests.
    pub fn hurry(&mut self, within: Duration, now: Duration) {
        for (site, known) in self.sites.iter_mut().filter(|(_, known)| !known.running) {
            let due = now + first(site, known.interval.min(within));
            if due >= known.due {
                continue;
            }
            let old = std::mem::replace(&mut known.due, due);
            self.namespaces.remove(site.namespace(), site.name(), old);
            self.namespaces.insert(site.namespace(), site.name(), due);
        }
    }

    /// Forgets a site. A fetch that runs goes on; its end is ignored.
    pub fn remove(&mut self, site: &SiteKey) {
        let Some(known) = self.sites.remove(site) else { return };
        if known.running {
            self.leave(site);
        } else {
            self.namespaces.remove(site.namespace(), site.name(), known.due);
        }
    }

    /// Takes the next site, and marks it as running.
    pub fn take(&mut self, now: Duration) -> Option<SiteKey> {
        if self.running >= self.bounds.all {
            return None;
        }
        let (namespace, name) = self.namespaces.start(self.started + 1, now)?;
        self.started += 1;
        self.running += 1;
        let site = SiteKey::new(&namespace, &name).ok()?;
        let known = self.sites.get_mut(&site)?;
        (known.running, known.again) = (true, false);
        Some(site)
    }

    /// Ends the fetch of a site.
    pub fn done(&mut self, site: &SiteKey, end: End, now: Duration) {
        let salt = self.started;
        let Some(known) = self.sites.get_mut(site).filter(|known| known.running) else { return };
        known.running = false;
        known.last = Some(now);
        let wait = match end {
            End::Success => {
                known.failures = 0;
                after_success(site, known.interval, salt)
            }
            End::Failure => {
                known.failures = known.failures.saturating_add(1);
                after_failure(site, known.interval, known.failures, salt)
            }
        };
        known.due = if known.again { now + GAP } else { now + wait };
        let due = known.due;
        self.leave(site);
        self.namespaces.insert(site.namespace(), site.name(), due);
    }

    /// Returns the time at which the next site is due, if there is room for it.
    #[must_use]
    pub fn next(&self) -> Option<Duration> {
        if self.running >= self.bounds.all {
            return None;
        }
        self.namespaces.next()
    }

    /// Returns the time at which a site is due.
    #[must_use]
    pub fn due(&self, site: &SiteKey) -> Option<Duration> {
        self.sites.get(site).map(|known| known.due)
    }

    /// Returns the number of sites, and the number of running ones.
    #[must_use]
    pub fn counts(&self) -> (usize, usize) {
        (self.sites.len(), self.running)
    }

    /// Returns the number of sites that are due and wait.
    #[must_use]
    pub fn overdue(&self, now: Duration) -> usize {
        let sites = self.sites.values();
        sites.filter(|site| !site.running && site.due <= now).count()
    }

    /// Returns the time for which the site that is due longest has waited.
    #[must_use]
    pub fn lag(&self, now: Duration) -> Duration {
        self.namespaces.oldest().map_or(Duration::ZERO, |due| now.saturating_sub(due))
    }

    /// Returns the state for a restart. A site that runs is due at once afterwards.
    #[must_use]
    pub fn save(&self, now: Duration) -> Saved {
        let state = |site: &Site| State {
            due: if site.running { now } else { site.due },
            failures: site.failures,
            last: site.last,
        };
        Saved::new(self.sites.iter().map(|(key, site)| (key.clone(), state(site))).collect())
    }

    fn leave(&mut self, site: &SiteKey) {
        self.running = self.running.saturating_sub(1);
        self.namespaces.end(site.namespace());
    }
}

#[cfg(test)]
mod tests;
