//! Deadlines of many connections: a wheel of slots, each a list of connections.
//!
//! A deadline that moves to a later moment costs nothing: its connection stays where it is, is
//! looked at too early, and put where it belongs then.

/// Milliseconds per slot: how late a deadline may be noticed.
const TICK: u64 = 32;

/// Slots; what lies farther ahead waits in the last one and is looked at again.
const SLOTS: usize = 1024;

const NONE: u32 = u32::MAX;

/// Where a connection stands.
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
    /// The tick up to which slots have been looked at.
    tick: u64,
    /// Connections that are in it.
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

    /// Sets a connection's deadline, unless it will be looked at before that anyway.
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

    /// Ticks until a slot's turn.
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

    /// Takes a connection out.
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

    /// A connection whose turn has come by `now`; it is taken out.
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

    /// When [`Self::pop`] may have something.
    pub(super) fn next(&self) -> Option<u64> {
        if self.count == 0 {
            return None;
        }
        let position = self.position();
        let busy = |slot: &usize| self.busy[slot / 64] >> (slot % 64) & 1 == 1;
        let ahead = (0..SLOTS).find(|ahead| busy(&((position + ahead) % SLOTS)))?;
        Some((self.tick + ahead as u64) * TICK)
    }

    /// Gives memory back that fewer connections do not need.
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
    fn deadlines_come_in_their_order_and_not_too_early() {
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
        assert_eq!(wheel.pop(900_000), Some(5), "looked at early, because it is far ahead");
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
        fn every_deadline_is_looked_at_in_time(
            deadlines in prop::collection::vec(0_u64..100_000, 1..50), step in 1_u64..5000,
        ) {
            let mut wheel = Wheel::new(0);
            let mut open: Vec<Option<u64>> = deadlines.iter().copied().map(Some).collect();
            for (index, deadline) in (0..).zip(&deadlines) { wheel.set(index, *deadline); }
            let mut now = 0;
            while open.iter().any(Option::is_some) {
                now += step;
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
