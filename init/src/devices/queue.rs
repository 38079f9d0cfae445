//! Devices that appeared and wait for the helper that loads their modules. Pure and bounded.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};

use super::device::Device;

/// Devices that wait for the helper; more are a walk over all.
const WAITING_MAX: usize = 64;

/// Kinds of hardware that are remembered as handled. More make PID 1 forget all and begin anew.
const SEEN_MAX: usize = 1024;

/// What the helper is to do.
#[derive(Debug, PartialEq, Eq)]
pub enum Work {
    /// Load modules for these.
    Load(Vec<Device>),
    /// Load modules for all devices that there are.
    Walk,
}

/// Devices on their way to the helper.
///
/// A kind of hardware is handed out once: its module is loaded then, or there is none, and a
/// device that comes and goes all day costs nothing more.
#[derive(Debug, Default)]
pub struct Queue {
    waiting: Vec<Device>,
    seen: HashSet<u64>,
    hasher: RandomState,
    /// All devices are to be looked at.
    walk: Option<Try>,
    busy: bool,
    /// What the helper works at.
    given: Vec<Device>,
    /// What a helper did not come to the end of: one at a time from now on.
    suspects: Vec<Device>,
    /// The helper looks at all devices.
    walking: Option<Try>,
}

/// A look at all devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Try {
    First,
    /// The one after a look that did not end in its time.
    Second,
}

impl Queue {
    /// A device appeared.
    pub fn note(&mut self, device: Device) {
        if self.seen.len() >= SEEN_MAX {
            self.seen.clear();
        }
        if !self.seen.insert(self.hasher.hash_one(&device.modalias)) || self.walk.is_some() {
            return;
        }
        if self.waiting.len() < WAITING_MAX {
            self.waiting.push(device);
        } else {
            self.overrun();
        }
    }

    /// Devices appeared that nobody knows.
    pub fn overrun(&mut self) {
        self.waiting.clear();
        self.walk.get_or_insert(Try::First);
    }

    /// Work for the helper, which is busy from now on; `None` while it is, or when there is none.
    pub fn work(&mut self) -> Option<Work> {
        let idle = self.waiting.is_empty() && self.suspects.is_empty() && self.walk.is_none();
        if self.busy || idle {
            return None;
        }
        self.busy = true;
        self.walking = self.walk.take();
        if self.walking.is_some() {
            return Some(Work::Walk);
        }
        let suspect = self.suspects.pop().map(|device| vec![device]);
        self.given = suspect.unwrap_or_else(|| std::mem::take(&mut self.waiting));
        Some(Work::Load(self.given.clone()))
    }

    /// The helper has ended.
    pub fn done(&mut self) {
        self.busy = false;
        self.given.clear();
    }

    /// The helper did not end in its time. Its devices are tried again, each on its own, so that
    /// the one whose driver hangs keeps no other from its driver. Returns what was given up: a
    /// device that was alone, or none after a look at all devices, of which there is a second one:
    /// it passes over modules that the kernel has begun to load.
    pub fn hung(&mut self) -> Option<Device> {
        self.busy = false;
        if self.walking == Some(Try::First) {
            self.walk = Some(Try::Second);
        }
        if self.given.len() > 1 {
            self.suspects.append(&mut self.given);
        }
        self.given.pop()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::{Queue, SEEN_MAX, WAITING_MAX, Work};
    use crate::devices::device::Device;

    fn device(number: usize) -> Device {
        Device { modalias: format!("pci:v{number:08X}"), path: format!("/devices/{number}") }
    }

    #[test]
    fn one_helper_at_a_time_gets_all_that_came_meanwhile() {
        let mut queue = Queue::default();
        assert_eq!(queue.work(), None);
        queue.note(device(1));
        assert_eq!(queue.work(), Some(Work::Load(vec![device(1)])));
        queue.note(device(2));
        queue.note(device(3));
        assert_eq!(queue.work(), None);
        queue.done();
        assert_eq!(queue.work(), Some(Work::Load(vec![device(2), device(3)])));
        queue.done();
        assert_eq!(queue.work(), None);
    }

    #[test]
    fn a_device_that_comes_and_goes_costs_one_helper() {
        let mut queue = Queue::default();
        for _ in 0..1000 {
            queue.note(device(1));
        }
        assert_eq!(queue.work(), Some(Work::Load(vec![device(1)])));
        queue.done();
        queue.note(device(1));
        assert_eq!(queue.work(), None);
    }

    #[test]
    fn an_overrun_is_one_walk() {
        let mut queue = Queue::default();
        queue.note(device(1));
        queue.overrun();
        queue.overrun();
        queue.note(device(2));
        assert_eq!(queue.work(), Some(Work::Walk));
        queue.done();
        assert_eq!(queue.work(), None);
    }

    #[test]
    fn a_device_whose_driver_hangs_is_given_up_alone() {
        let mut queue = Queue::default();
        (1..=3).for_each(|number| queue.note(device(number)));
        assert_eq!(queue.work(), Some(Work::Load(vec![device(1), device(2), device(3)])));
        queue.note(device(4));
        assert_eq!(queue.hung(), None);
        let mut given_up = Vec::new();
        let mut tried = Vec::new();
        while let Some(Work::Load(devices)) = queue.work() {
            if devices == [device(2)] {
                given_up.extend(queue.hung());
            } else {
                queue.done();
            }
            tried.extend(devices);
        }
        tried.sort();
        assert_eq!(tried, [1, 2, 3, 4].map(device));
        assert_eq!(given_up, [device(2)]);
        queue.overrun();
        assert_eq!(queue.work(), Some(Work::Walk));
        assert_eq!(queue.hung(), None);
        assert_eq!(queue.work(), Some(Work::Walk), "what lay behind the one that hangs");
        assert_eq!(queue.hung(), None);
        assert_eq!(queue.work(), None, "it would hang for ever");
    }

    /// A day of a device that reconnects every second, beside a storm of new ones, with a helper
    /// that is slow: what is held at the end is what was held at the beginning.
    #[test]
    fn a_day_of_messages_does_not_grow_the_queue() {
        let mut queue = Queue::default();
        let size = |queue: &Queue| {
            let suspects = queue.suspects.capacity().max(queue.given.capacity());
            (queue.waiting.capacity().max(suspects), queue.seen.capacity())
        };
        let mut largest = (0, 0);
        for second in 0..86_400 {
            queue.note(device(0));
            for storm in 0..20 {
                queue.note(device(second * 20 + storm));
            }
            if second % 7 == 0 {
                if second % 49 == 0 {
                    let _ = queue.hung();
                } else {
                    queue.done();
                }
                let _ = queue.work();
            }
            let (waiting, seen) = size(&queue);
            largest = (largest.0.max(waiting), largest.1.max(seen));
        }
        assert!(largest.0 <= 2 * WAITING_MAX && largest.1 <= 4 * SEEN_MAX, "{largest:?}");
    }

    proptest! {
        /// Every device is handed out, or a walk comes after it.
        #[test]
        fn nothing_is_lost(events in prop::collection::vec(0..400_usize, 0..600)) {
            let mut queue = Queue::default();
            let mut open = BTreeSet::new();
            let mut known = BTreeSet::new();
            let settle = |queue: &mut Queue, open: &mut BTreeSet<Device>| {
                match queue.work() {
                    Some(Work::Walk) => open.clear(),
                    Some(Work::Load(devices)) => devices.iter().for_each(|d| { open.remove(d); }),
                    None => {}
                }
            };
            for event in events {
                match event {
                    0..10 => queue.overrun(),
                    10..40 => queue.done(),
                    40..80 => settle(&mut queue, &mut open),
                    number => {
                        if known.insert(number) {
                            open.insert(device(number));
                        }
                        queue.note(device(number));
                    }
                }
            }
            for _ in 0..3 {
                queue.done();
                settle(&mut queue, &mut open);
            }
            prop_assert!(open.is_empty(), "{open:?}");
        }
    }
}
