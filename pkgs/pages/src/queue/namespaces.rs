//! The namespaces of the queue, in the order in which they come next. Pure.
//!
//! Two indexes keep the cost of a fetch independent of the number of namespaces: one has those whose
//! first site is due later, by time, and one those that may start now, by fairness.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// The waiting sites of all namespaces. Times are durations since 1970.
#[derive(Debug, Default)]
pub struct Namespaces {
    all: BTreeMap<String, Namespace>,
    /// The most fetches of one namespace at a time.
    most: usize,
    later: BTreeSet<(Duration, String)>,
    /// Running fetches, number of the last fetch, and name.
    ready: BTreeSet<(usize, u64, String)>,
}

#[derive(Debug, Default)]
struct Namespace {
    /// The sites that do not run, by the time at which they are due.
    waiting: BTreeSet<(Duration, String)>,
    running: usize,
    /// The number of the last fetch of this namespace.
    last: u64,
    place: Place,
}

/// The index that has a namespace.
#[derive(Debug, Clone, Copy, Default)]
enum Place {
    /// No site waits, or as many run as may.
    #[default]
    Nowhere,
    /// [`Namespaces::later`], with this time.
    Later(Duration),
    /// [`Namespaces::ready`], with these numbers.
    Ready(usize, u64),
}

impl Namespaces {
    /// Creates an empty set with a bound for each namespace.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self { most, ..Self::default() }
    }

    /// Adds a site that waits.
    pub fn insert(&mut self, namespace: &str, name: &str, due: Duration) {
        let found = self.all.entry(namespace.to_owned()).or_default();
        found.waiting.insert((due, name.to_owned()));
        self.index(namespace);
    }

    /// Removes a site that waits.
    pub fn remove(&mut self, namespace: &str, name: &str, due: Duration) {
        if let Some(found) = self.all.get_mut(namespace) {
            found.waiting.remove(&(due, name.to_owned()));
        }
        self.index(namespace);
    }

    /// Starts the fetch with this number: of the namespaces with a due site, the one with the fewest
    /// running fetches comes first, then the one whose last fetch is the longest ago. Returns namespace
    /// and name.
    pub fn start(&mut self, number: u64, now: Duration) -> Option<(String, String)> {
        while self.later.first().is_some_and(|(due, _)| *due <= now) {
            let (_, name) = self.later.pop_first()?;
            let found = self.all.get_mut(&name)?;
            found.place = Place::Ready(found.running, found.last);
            self.ready.insert((found.running, found.last, name));
        }
        let (_, _, namespace) = self.ready.first()?.clone();
        let found = self.all.get_mut(&namespace)?;
        let (_, site) = found.waiting.pop_first()?;
        found.running += 1;
        found.last = number;
        self.index(&namespace);
        Some((namespace, site))
    }

    /// Ends a fetch.
    pub fn end(&mut self, namespace: &str) {
        if let Some(found) = self.all.get_mut(namespace) {
            found.running = found.running.saturating_sub(1);
        }
        self.index(namespace);
    }

    /// Returns the time at which a site may start: that of the site that comes next, or else the first
    /// one that is due later.
    #[must_use]
    pub fn next(&self) -> Option<Duration> {
        match self.ready.first() {
            Some((_, _, name)) => self.first(name),
            None => self.later.first().map(|(due, _)| *due),
        }
    }

    /// Returns the time of the site that is due first, whether it may start or not.
    #[must_use]
    pub fn oldest(&self) -> Option<Duration> {
        self.all.keys().filter_map(|name| self.first(name)).min()
    }

    fn first(&self, namespace: &str) -> Option<Duration> {
        self.all.get(namespace)?.waiting.first().map(|(due, _)| *due)
    }

    /// Puts a namespace where it belongs after a change, and forgets an idle one without sites.
    fn index(&mut self, namespace: &str) {
        let Some(found) = self.all.get_mut(namespace) else { return };
        match std::mem::take(&mut found.place) {
            Place::Nowhere => {}
            Place::Later(due) => {
                self.later.remove(&(due, namespace.to_owned()));
            }
            Place::Ready(running, last) => {
                self.ready.remove(&(running, last, namespace.to_owned()));
            }
        }
        if found.waiting.is_empty() && found.running == 0 {
            self.all.remove(namespace);
        } else if let Some((due, _)) = found.waiting.first()
            && found.running < self.most
        {
            found.place = Place::Later(*due);
            self.later.insert((*due, namespace.to_owned()));
        }
    }
}
