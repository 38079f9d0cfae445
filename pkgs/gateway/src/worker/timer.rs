//! Deadlines of many connections: a wheel of slots, each with a list of connections.
//!
//! Moving a deadline to a later moment costs nothing: the connection stays in its slot, is found too
//! early, and is then put into the right slot.

/// Milliseconds per slot, which is also the largest delay before a deadline is noticed.
const TICK: u64 = 32;

/// The number of slots. A deadline beyond the last slot waits in that slot and is checked again.
const SLOTS: usize = 1024;

const NONE: u32 = u32::MAX;

/// A connection's place in a list.
#[derive(Debug, Clone, Copy)]
struct Link {
    next: u32,
    before: u32,
    slot: u32,
}

const UNLINKED: Link = Link { next: NONE, before: NONE, slot: NONE };

/// The wheel. Connections are named by their index.
#[derive(Debug)]
pub(super) struct Wheel {
    heads: Vec<u32>,
    busy: [u64; SLOTS / 64],
    links: Vec<Link>,
    /// The tick up to which slots have been emptied.
    tick: u64,
    /// Connections in the wheel.
    count: usize,
}

impl Wheel {
    pub(super) fn new(now: u64) -> Self {
        Self {
            heads: vec![NONE; SLOTS],
            busy: [0; SLOTS / 64],
            links: Vec::new(),
            tick: now / TICK,
            count: 0,
        }
    }

    /// Sets a connection's deadline, unless the connection's slot is earlier anyway.
    pub(super) fn set(&mut self, index: u32, deadline: u64) {
        let at = usize::try_from(index).unwrap_or(usize::MAX);
        if at >= self.links.len() {
            self.links.resize(at + 1, UNLINKED);
        }
        let ahead = deadline.div_ceil(TICK).max(self.tick + 1) - self.tick;
        let ahead = usize::try_from(ahead).unwrap_or(SLOTS).min(SLOTS - 1);
        let link = self.links[at];
        if link.slot != NONE {
            if self.ahead(link.slot) <= ahead {
                return;
            }
            self.remove(index);
        }
        self.insert(index, (self.position() + ahead) % SLOTS);
    }

    /// Returns the ticks until a slot's turn.
    fn ahead(&self, slot: u32) -> usize {
        (slot as usize + SLOTS - self.position()) % SLOTS
    }

    fn position(&self) -> usize {
        usize::try_from(self.tick % SLOTS as u64).unwrap_or(0)
    }

    fn insert(&mut self, index: u32, slot: usize) {
        let next = self.heads[slot];
        if next != NONE {
            self.links[next as usize].before = index;
        }
        self.links[index as usize] =
            Link { next, before: NONE, slot: u32::try_from(slot).unwrap_or(0) };
        self.heads[slot] = index;
        self.busy[slot / 64] |= 1 << (slot % 64);
        self.count += 1;
    }

    /// Removes a connection.
    pub(super) fn remove(&mut self, index: u32) {
        let Some(link) = self.links.get(index as usize).copied().filter(|link| link.slot != NONE)
        else {
            return;
        };
        if link.next != NONE {
            self.links[link.next as usize].before = link.before;
        }
        let slot = link.slot as usize;
        if link.before == NONE {
            self.heads[slot] = link.next;
            if link.next == NONE {
                self.busy[slot / 64] &= !(1 << (slot % 64));
            }
        } else {
            self.links[link.before as usize].next = link.next;
        }
        self.links[index as usize] = UNLINKED;
        self.count -= 1;
    }

    /// Removes and returns a connection whose turn has come by `now`.
    pub(super) fn pop(&mut self, now: u64) -> Option<u32> {
        let end = now / TICK;
        while self.tick <= end {
            let head = self.heads[self.position()];
            if head != NONE {
                self.remove(head);
                return Some(head);
            }
            if self.tick == end {
                return None;
            }
            self.tick += 1;
            if self.count == 0 {
                self.tick = end;
            }
        }
        None
    }

    /// Returns the moment at which [`Self::pop`] may find a connection.
    pub(super) fn next(&self) -> Option<u64> {
        if self.count == 0 {
            return None;
        }
        let position = self.position();
        let busy = |slot: &usize| self.busy[slot / 64] >> (slot % 64) & 1 == 1;
        let ahead = (0..SLOTS).find(|ahead| busy(&((position + ahead) % SLOTS)))?;
        Some((self.tick + ahead as u64) * TICK)
    }

    /// Frees memory that this many indices do not need.
    pub(super) fn shrink(&mut self, indices: usize) {
        if self.links.len() > indices {
            self.links.truncate(indices);
            self.links.shrink_to_fit();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Wheel;
    use proptest::prelude::*;

    #[test]
    fn deadlines_pass_in_order_and_not_too_early() {
        let mut wheel = Wheel::new(1000);
        assert_eq!(wheel.next(), None);
        wheel.set(3, 2000);
        wheel.set(4, 1500);
        wheel.set(5, 1_000_000);
        assert!(wheel.next().unwrap() >= 1500);
        assert_eq!(wheel.pop(1499), None);
        assert_eq!(wheel.pop(1600), Some(4));
        assert_eq!(wheel.pop(1600), None);
        wheel.remove(3);
        assert_eq!(wheel.pop(3000), None);
        assert_eq!(wheel.pop(900_000), Some(5), "found early, because it is beyond the last slot");
    }

    #[test]
    fn an_earlier_deadline_replaces_a_later_one_but_not_the_reverse() {
        let mut wheel = Wheel::new(0);
        wheel.set(1, 5000);
        wheel.set(1, 100);
        wheel.set(1, 9000);
        assert_eq!(wheel.pop(200), Some(1));
        assert_eq!(wheel.pop(99_999), None);
    }

    proptest! {
        #[test]
        fn every_deadline_is_noticed_in_time(
            deadlines in prop::collection::vec(0_u64..100_000, 1..50), pause in 1_u64..5000,
        ) {
            let mut wheel = Wheel::new(0);
            let mut open: Vec<Option<u64>> = deadlines.iter().copied().map(Some).collect();
            for (index, deadline) in (0..).zip(&deadlines) { wheel.set(index, *deadline); }
            let mut now = 0;
            while open.iter().any(Option::is_some) {
                now += pause;
                while let Some(index) = wheel.pop(now) {
                    match open[index as usize] {
                        Some(deadline) if deadline <= now => open[index as usize] = None,
                        Some(deadline) => wheel.set(index, deadline),
                        None => prop_assert!(false, "twice"),
                    }
                }
                prop_assert!(open.iter().flatten().all(|deadline| deadline + 64 > now), "late");
            }
            prop_assert_eq!(wheel.next(), None);
        }
    }
}
