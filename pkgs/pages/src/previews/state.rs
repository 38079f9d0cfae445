//! The references of a repository that are known, and the previews among them that are alive.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::reference::Reference;
use super::wish::Wish;

/// The version of the file's format.
const VERSION: u32 = 1;

/// The most references of a site that are remembered. More are left out, so that none of them looks
/// new at every look.
pub const REFERENCES_MAX: usize = 1000;

/// The most pull requests that webhooks have announced and no list has shown yet.
const ANNOUNCED_MAX: usize = 100;

/// The known references of one site.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    version: u32,
    /// The repository. Another one has other references.
    source: String,
    references: BTreeMap<Reference, Known>,
    /// Pull requests that webhooks have announced.
    announced: BTreeSet<Reference>,
    /// The highest number of a pull request so far; nothing before the first look.
    highest: Option<u64>,
    /// True if the last look found more references than are remembered.
    pub is_full: bool,
}

/// A known reference.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Known {
    /// The commit.
    commit: String,
    /// The time at which the commit was seen first, in seconds since 1970.
    since: u64,
    /// True if the pull request was closed.
    is_closed: bool,
}

/// A preview that should exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Live {
    /// The reference.
    pub reference: Reference,
    /// Its commit.
    pub commit: String,
    /// The time at which its commit was seen first, since 1970.
    pub since: Duration,
    /// The end of its life, since 1970.
    pub expires: Duration,
}

impl State {
    /// Starts without references.
    #[must_use]
    pub fn new(source: &str) -> Self {
        Self {
            version: VERSION,
            source: source.to_owned(),
            references: BTreeMap::new(),
            announced: BTreeSet::new(),
            highest: None,
            is_full: false,
        }
    }

    /// Parses a file; nothing if it is damaged, of another version or about another repository.
    #[must_use]
    pub fn parse(bytes: &[u8], source: &str) -> Option<Self> {
        let state: Self = serde_json::from_slice(bytes).ok()?;
        (state.version == VERSION && state.source == source).then_some(state)
    }

    /// Returns the file's bytes.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// True if the references are those of this repository.
    #[must_use]
    pub fn is_of(&self, source: &str) -> bool {
        self.source == source
    }

    /// Adds a preview that the status of the site shows, for a syncer that has lost its disk.
    pub fn restore(&mut self, reference: Reference, commit: &str, since: Duration) {
        let known = Known { commit: commit.to_owned(), since: since.as_secs(), is_closed: false };
        self.references.entry(reference).or_insert(known);
    }

    /// Records that a pull request was opened or changed, or that it was closed.
    pub fn announce(&mut self, reference: Reference, is_closed: bool) {
        if let Some(known) = self.references.get_mut(&reference) {
            known.is_closed = is_closed;
        } else if is_closed {
            self.announced.remove(&reference);
            if self.references.len() < REFERENCES_MAX {
                let known = Known { commit: String::new(), since: 0, is_closed };
                self.references.insert(reference, known);
            }
            return;
        }
        if !is_closed && self.announced.len() < ANNOUNCED_MAX {
            self.announced.insert(reference);
        }
    }

    /// Compares the references with those that a server lists.
    ///
    /// The commit of a pull request counts if it is the head of one of the repository's own branches:
    /// then a member has pushed it. Git does not tell closed requests from open ones, so without a
    /// branch only those count that webhooks announce or that are newer than the first look, and only
    /// if the site wants those of strangers.
    pub fn look(&mut self, wish: &Wish, listed: &BTreeMap<Reference, String>, now: Duration) {
        let heads: BTreeSet<&str> = listed
            .iter()
            .filter(|(reference, _)| reference.branch().is_some_and(|name| name != wish.main))
            .map(|(_, commit)| commit.as_str())
            .collect();
        self.references
            .retain(|reference, _| listed.contains_key(reference) && wish.wants(reference));
        self.is_full = false;
        for (reference, commit) in listed.iter().filter(|(reference, _)| wish.wants(reference)) {
            let is_own = reference.branch().is_some() || heads.contains(commit.as_str());
            let is_announced = self.announced.remove(reference);
            let is_later = reference.number() > self.highest && self.highest.is_some();
            if let Some(known) = self.references.get_mut(reference) {
                if known.commit != *commit && (is_own || wish.forks) {
                    (known.commit, known.since) = (commit.clone(), now.as_secs());
                }
            } else if is_own || (wish.forks && (is_announced || is_later)) {
                if self.make_room(now, wish) {
                    let (commit, since) = (commit.clone(), now.as_secs());
                    let known = Known { commit, since, is_closed: false };
                    self.references.insert(reference.clone(), known);
                } else {
                    self.is_full = true;
                }
            }
        }
        let numbers = listed.keys().filter_map(Reference::number);
        self.highest = numbers.max().max(self.highest).or(Some(0));
    }

    /// Makes room for one reference: a pull request that has no preview any more is forgotten.
    fn make_room(&mut self, now: Duration, wish: &Wish) -> bool {
        if self.references.len() < REFERENCES_MAX {
            return true;
        }
        let over = self.references.iter().filter(|(reference, known)| {
            reference.number().is_some() && (known.is_closed || expires(known, wish) <= now)
        });
        let oldest = over.min_by_key(|(_, known)| known.since).map(|(oldest, _)| oldest.clone());
        oldest.is_some_and(|oldest| self.references.remove(&oldest).is_some())
    }

    /// Returns all previews that are alive, the newest first. There may be more than the site may have.
    #[must_use]
    pub fn live(&self, wish: &Wish, now: Duration) -> Vec<Live> {
        let alive = self.references.iter().filter(|(reference, known)| {
            wish.wants(reference) && !known.is_closed && expires(known, wish) > now
        });
        let mut live: Vec<Live> = alive
            .map(|(reference, known)| Live {
                reference: reference.clone(),
                commit: known.commit.clone(),
                since: Duration::from_secs(known.since),
                expires: expires(known, wish),
            })
            .collect();
        live.sort_by(|a, b| (b.since, &a.reference).cmp(&(a.since, &b.reference)));
        live
    }

    /// Returns the end of the next preview's life.
    #[must_use]
    pub fn next_expiry(&self, wish: &Wish, now: Duration) -> Option<Duration> {
        self.live(wish, now).iter().map(|live| live.expires).min()
    }
}

fn expires(known: &Known, wish: &Wish) -> Duration {
    Duration::from_secs(known.since).saturating_add(wish.lifetime)
}

#[cfg(test)]
mod tests;
