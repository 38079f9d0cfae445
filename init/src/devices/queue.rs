//! The queue of devices that wait for the helper. Pure and bounded.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};

use super::device::Device;

/// The number of waiting devices. If more appear, the helper scans all devices.
const WAITING_MAX: usize = 64;

/// The number of kinds of hardware that are remembered as handled. At the limit PID 1 forgets all
/// of them.
const SEEN_MAX: usize = 1024;

/// Work for the helper.
#[derive(Debug, PartialEq, Eq)]
pub enum Work {
    /// Load modules for these devices.
    Load(Vec<Device>),
    /// Load modules for all devices.
    Walk,
}

/// The devices that wait for the helper.
///
/// Each kind of hardware is handed out once, because after that its module is loaded or does not
/// exist. A device that appears and disappears all day costs nothing more.
#[derive(Debug, Default)]
pub struct Queue {
    waiting: Vec<Device>,
    seen: HashSet<u64>,
    hasher: RandomState,
    /// A scan of all devices is due.
    walk: Option<Try>,
    busy: bool,
    /// The devices that the helper works on.
    given: Vec<Device>,
    /// Devices of a helper that did not end in time. They are tried one at a time.
    suspects: Vec<Device>,
    /// The helper scans all devices.
    walking: Option<Try>,
}

/// A scan of all devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Try {
    First,
    /// The scan after one that did not end in time.
    Second,
}

impl Queue {
    /// Adds a device that appeared.
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

    /// Records that messages were lost: unknown devices may have appeared.
    pub fn overrun(&mut self) {
        self.waiting.clear();
        self.walk.get_or_insert(Try::First);
    }

    /// Returns work for the helper, which is busy from then on. Returns `None` if the helper is
    /// busy or there is no work.
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

    /// Records the end of the helper.
    pub fn done(&mut self) {
        self.busy = false;
        self.given.clear();
    }

    /// Records that the helper did not end in time. Its devices are tried again one by one,
    /// so that a hanging driver blocks no other. Returns the device that is given up: one that
    /// was tried alone. A scan of all devices is repeated once; it skips modules that the
    /// kernel has begun to load.
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
    fn one_helper_at_a_time_gets_everything_that_appeared_in_the_meantime() {
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
    fn a_device_that_appears_and_disappears_costs_one_helper() {
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
    fn any_number_of_overruns_causes_one_scan() {
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
        assert_eq!(queue.work(), Some(Work::Walk), "the devices after the hanging one");
        assert_eq!(queue.hung(), None);
        assert_eq!(queue.work(), None, "it would hang forever");
    }

    /// A day of a device that reconnects every second, during a storm of new devices and with a
    /// slow helper, does not grow the memory.
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
                /// Every device is handed out, or a scan follows it.
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
