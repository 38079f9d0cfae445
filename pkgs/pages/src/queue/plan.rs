//! The queue.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::key::SiteKey;
use crate::queue::saved::{Saved, State};
use crate::queue::wait::{GAP, after_failure, after_success, first};

/// The sites that wait and run. Times are durations since 1970.
#[derive(Debug, Default)]
pub struct Queue {
    sites: BTreeMap<SiteKey, Site>,
    namespaces: BTreeMap<String, Namespace>,
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

#[derive(Debug, Default)]
struct Namespace {
    /// The sites that do not run, by the time at which they are due.
    waiting: BTreeSet<(Duration, String)>,
    running: usize,
    /// The number of the last fetch of this namespace.
    last: u64,
}

/// The end of a fetch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The site is up to date.
    Success,
    /// Try again later.
    Failure,
}

impl Queue {
    /// Creates an empty queue.
    #[must_use]
    pub fn new(bounds: Bounds) -> Self {
        Self { bounds, ..Self::default() }
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
        self.waiting(site).insert((due, site.name().to_owned()));
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
        let waiting = self.waiting(site);
        waiting.remove(&(old, site.name().to_owned()));
        waiting.insert((due, site.name().to_owned()));
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
            let namespace = self.namespaces.entry(site.namespace().to_owned()).or_default();
            namespace.waiting.remove(&(old, site.name().to_owned()));
            namespace.waiting.insert((due, site.name().to_owned()));
        }
    }

    /// Forgets a site. A fetch that runs goes on; its end is ignored.
    pub fn remove(&mut self, site: &SiteKey) {
        let Some(known) = self.sites.remove(site) else { return };
        if known.running {
            self.leave(site);
        } else {
            self.waiting(site).remove(&(known.due, site.name().to_owned()));
        }
        self.tidy(site);
    }

    /// Takes the next site, and marks it as running.
    pub fn take(&mut self, now: Duration) -> Option<SiteKey> {
        if self.running >= self.bounds.all {
            return None;
        }
        let most = self.bounds.namespace;
        let ready = self.namespaces.iter().filter(|(_, namespace)| {
            namespace.running < most
                && namespace.waiting.first().is_some_and(|(due, _)| *due <= now)
        });
        let (name, _) = ready.min_by_key(|(_, namespace)| (namespace.running, namespace.last))?;
        let name = name.clone();
        let namespace = self.namespaces.get_mut(&name)?;
        let (_, site) = namespace.waiting.pop_first()?;
        self.started += 1;
        self.running += 1;
        namespace.running += 1;
        namespace.last = self.started;
        let site = SiteKey::new(&name, &site).ok()?;
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
        self.waiting(site).insert((due, site.name().to_owned()));
    }

    /// Returns the time at which the next site is due, if there is room for it.
    #[must_use]
    pub fn next(&self) -> Option<Duration> {
        if self.running >= self.bounds.all {
            return None;
        }
        let open = self.namespaces.values().filter(|one| one.running < self.bounds.namespace);
        open.filter_map(|one| one.waiting.first()).map(|(due, _)| *due).min()
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
        let waiting = self.namespaces.values().filter_map(|one| one.waiting.first());
        let oldest = waiting.map(|(due, _)| *due).min();
        oldest.map_or(Duration::ZERO, |due| now.saturating_sub(due))
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

    fn waiting(&mut self, site: &SiteKey) -> &mut BTreeSet<(Duration, String)> {
        &mut self.namespaces.entry(site.namespace().to_owned()).or_default().waiting
    }

    fn leave(&mut self, site: &SiteKey) {
        self.running = self.running.saturating_sub(1);
        if let Some(namespace) = self.namespaces.get_mut(site.namespace()) {
            namespace.running = namespace.running.saturating_sub(1);
        }
    }

    fn tidy(&mut self, site: &SiteKey) {
        let is_idle = |one: &Namespace| one.waiting.is_empty() && one.running == 0;
        if self.namespaces.get(site.namespace()).is_some_and(is_idle) {
            self.namespaces.remove(site.namespace());
        }
    }
}

#[cfg(test)]
mod tests;
