//! The disks that wait for the helper. Pure and bounded.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// The number of waiting disks. If more appear, the helper looks at all disks.
const WAITING_MAX: usize = 64;

/// The time limit for a helper, which gives each disk ten seconds.
const HELPER_MAX: Duration = Duration::from_secs(30);

/// The time between the starts of two helpers, so that a device which changes all the time, or root
/// who makes the kernel announce it, costs little.
const PAUSE: Duration = Duration::from_secs(1);

/// Work for the helper.
#[derive(Debug, PartialEq, Eq)]
pub enum Work {
    /// Look at these disks.
    Disks(Vec<String>),
    /// Look at all disks.
    All,
}

/// The disks that wait for the helper, and the helper's times.
#[derive(Debug, Default)]
pub struct Queue {
    waiting: BTreeSet<String>,
    all: bool,
    busy: bool,
    started: Option<Instant>,
}

impl Queue {
    /// Adds a disk or partition that appeared, changed or went.
    pub fn note(&mut self, name: String) {
        if self.all {
            return;
        }
        self.waiting.insert(name);
        if self.waiting.len() > WAITING_MAX {
            self.overrun();
        }
    }

    /// Records that any disk may have changed.
    pub fn overrun(&mut self) {
        self.waiting.clear();
        self.all = true;
    }

    /// Returns work for the helper, which is busy from then on. Returns `None` if the helper is
    /// busy, was started less than a second ago, or there is no work.
    pub fn work(&mut self, now: Instant) -> Option<Work> {
        if self.due(now).is_none_or(|due| due > now) || self.busy {
            return None;
        }
        (self.busy, self.started) = (true, Some(now));
        let waiting = std::mem::take(&mut self.waiting);
        let all = std::mem::take(&mut self.all);
        Some(if all { Work::All } else { Work::Disks(waiting.into_iter().collect()) })
    }

    /// Records the end of the helper.
    pub fn done(&mut self) {
        self.busy = false;
    }

    /// Returns the time of the next action: the helper's deadline, or the start of the next one.
    #[must_use]
    pub fn due(&self, now: Instant) -> Option<Instant> {
        match (self.busy, self.started) {
            (true, started) => started.map(|started| started + HELPER_MAX),
            (false, _) if self.waiting.is_empty() && !self.all => None,
            (false, started) => Some(started.map_or(now, |started| started + PAUSE)),
        }
    }

    /// True if the helper is busy past its deadline.
    #[must_use]
    pub fn is_late(&self, now: Instant) -> bool {
        self.busy && self.due(now).is_some_and(|due| due <= now)
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{HELPER_MAX, PAUSE, Queue, WAITING_MAX, Work};

    #[test]
    fn one_helper_at_a_time_gets_every_disk_once() {
        let (mut queue, start) = (Queue::default(), Instant::now());
        let later = |seconds| start + Duration::from_secs(seconds);
        assert_eq!((queue.work(later(0)), queue.due(later(0))), (None, None));
        for name in ["vdb", "vda", "vdb"] {
            queue.note(name.into());
        }
        assert_eq!(queue.work(later(0)), Some(Work::Disks(vec!["vda".into(), "vdb".into()])));
        queue.note("vdc".into());
        assert_eq!(queue.work(later(1)), None);
        assert_eq!(queue.due(later(1)), Some(later(0) + HELPER_MAX));
        queue.done();
        assert_eq!(queue.due(later(1)), Some(later(0) + PAUSE));
        assert_eq!(queue.work(later(0)), None, "too early");
        assert_eq!(queue.work(later(1)), Some(Work::Disks(vec!["vdc".into()])));
        queue.done();
        assert_eq!(queue.due(later(1)), None);
    }

    #[test]
    fn a_storm_is_one_look_at_all_disks() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        (0..10_000).for_each(|number| queue.note(format!("sd{number}")));
        assert!(queue.waiting.len() <= WAITING_MAX);
        assert_eq!(queue.work(now), Some(Work::All));
        queue.done();
        assert_eq!(queue.work(now + PAUSE), None);
    }

    #[test]
    fn a_late_helper_blocks_nothing() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        queue.overrun();
        assert_eq!(queue.work(now), Some(Work::All));
        assert!(!queue.is_late(now) && queue.is_late(now + HELPER_MAX));
        queue.note("vda".into());
        queue.done();
        assert_eq!(queue.work(now + HELPER_MAX), Some(Work::Disks(vec!["vda".into()])));
    }
}
