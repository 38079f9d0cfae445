//! The work of a reconciler: names with the time at which each is due. Pure, with time as an argument.
//!
//! A name that must wait comes back later and later, and at once when the object that it waits for
//! changes. The queue holds a limited number of names, because users of the cluster decide how many
//! there are.

use std::collections::BTreeMap;
use std::time::Duration;

/// The most names. A name has up to 253 bytes, so a full queue takes about 1 MB.
pub const NAMES_MAX: usize = 2048;

/// The first wait; a Node's first addresses arrive within a second of its first request.
const WAIT_MIN: Duration = Duration::from_secs(1);

/// The longest wait. It bounds the load of requests that will never be right.
const WAIT_MAX: Duration = Duration::from_mins(5);

/// The names that wait for work.
#[derive(Debug, Default)]
pub struct Queue {
    names: BTreeMap<String, Entry>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Entry {
    due: Duration,
    attempts: u32,
    cause: Option<String>,
}

/// A name whose time has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Work {
    /// The name of the object to look at.
    pub name: String,
    /// The number of earlier attempts.
    pub attempts: u32,
}

impl Queue {
    /// Adds a name that is due now. If the queue is full, the name with the most attempts is dropped
    /// and returned.
    pub fn add(&mut self, name: &str, now: Duration) -> Option<String> {
        if let Some(entry) = self.names.get_mut(name) {
            entry.due = entry.due.min(now);
            return None;
        }
        let dropped = (self.names.len() >= NAMES_MAX).then(|| self.drop_one()).flatten();
        self.names.insert(name.to_owned(), Entry { due: now, ..Entry::default() });
        dropped
    }

    /// Puts a name back after an attempt. A change of the object `cause` makes it due at once.
    pub fn retry(&mut self, work: Work, cause: Option<&str>, now: Duration) {
        let wait = WAIT_MIN.saturating_mul(1 << work.attempts.min(16)).min(WAIT_MAX);
        let attempts = work.attempts.saturating_add(1);
        let entry = Entry { due: now + wait, attempts, cause: cause.map(str::to_owned) };
        self.names.insert(work.name, entry);
    }

    /// Makes the names due that wait for this object.
    pub fn wake(&mut self, cause: &str, now: Duration) {
        for entry in self.names.values_mut().filter(|it| it.cause.as_deref() == Some(cause)) {
            entry.due = entry.due.min(now);
        }
    }

    /// Makes all names due.
    pub fn wake_all(&mut self, now: Duration) {
        for entry in self.names.values_mut() {
            entry.due = entry.due.min(now);
        }
    }

    /// Forgets a name.
    pub fn remove(&mut self, name: &str) {
        self.names.remove(name);
    }

    /// Takes the name that has been due for the longest time.
    pub fn take(&mut self, now: Duration) -> Option<Work> {
        let (name, entry) = self.names.iter().min_by_key(|(_, entry)| entry.due)?;
        if entry.due > now {
            return None;
        }
        let work = Work { name: name.clone(), attempts: entry.attempts };
        self.names.remove(&work.name);
        Some(work)
    }

    /// Returns the time at which the next name is due.
    #[must_use]
    pub fn next(&self) -> Option<Duration> {
        self.names.values().map(|entry| entry.due).min()
    }

    /// Returns the number of names.
    #[must_use]
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// True if no name waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    fn drop_one(&mut self) -> Option<String> {
        let worst = self.names.iter().max_by_key(|(_, entry)| (entry.attempts, entry.due))?;
        let name = worst.0.clone();
        self.names.remove(&name);
        Some(name)
    }
}

#[cfg(test)]
mod tests {
    use super::{NAMES_MAX, Queue, WAIT_MAX, Work};
    use std::time::Duration;

    const fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn work(name: &str, attempts: u32) -> Work {
        Work { name: name.to_owned(), attempts }
    }

    #[test]
    fn a_name_is_taken_once_however_often_it_was_added() {
        let mut queue = Queue::default();
        queue.add("a", at(1));
        queue.add("a", at(2));
        assert_eq!(queue.take(at(2)), Some(work("a", 0)));
        assert_eq!(queue.take(at(9)), None);
        assert!(queue.is_empty());
    }

    #[test]
    fn waits_double_up_to_the_longest() {
        let mut queue = Queue::default();
        let waits = [0, 1, 2, 8, 9, 30, u32::MAX].map(|attempts| {
            queue.retry(work("a", attempts), None, at(0));
            queue.next().unwrap().as_secs()
        });
        assert_eq!(waits, [1, 2, 4, 256, 300, 300, 300]);
    }

    #[test]
    fn a_change_wakes_only_what_waits_for_it() {
        let mut queue = Queue::default();
        queue.retry(work("a", 3), Some("node-1"), at(0));
        queue.retry(work("b", 3), Some("node-2"), at(0));
        queue.wake("node-1", at(1));
        assert_eq!(queue.take(at(1)), Some(work("a", 4)));
        assert_eq!(queue.take(at(1)), None);
        queue.wake_all(at(2));
        assert_eq!(queue.take(at(2)), Some(work("b", 4)));
    }

    #[test]
    fn a_full_queue_drops_what_failed_most_and_takes_new_names() {
        let mut queue = Queue::default();
        for index in 0..NAMES_MAX {
            queue.retry(work(&format!("old-{index}"), u32::from(index == 7)), None, at(0));
        }
        assert_eq!(queue.add("new", at(0)), Some("old-7".to_owned()));
        assert_eq!(queue.len(), NAMES_MAX);
        assert_eq!(queue.take(at(0)), Some(work("new", 0)));
    }

    #[test]
    fn every_name_comes_back_within_the_longest_wait() {
        let mut queue = Queue::default();
        queue.retry(work("a", 100), Some("node-1"), at(10));
        assert!(queue.take(at(10) + WAIT_MAX).is_some());
    }
}
