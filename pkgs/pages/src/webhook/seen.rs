//! The deliveries that were handled, so that a replayed one causes no work.

use std::collections::{HashSet, VecDeque};

use crate::key::SiteKey;

/// The most deliveries that are remembered, of all sites together: about 1 MB.
pub const DELIVERIES_MAX: usize = 4096;

/// The last deliveries.
#[derive(Debug, Default)]
pub struct Seen {
    order: VecDeque<(SiteKey, String)>,
    known: HashSet<(SiteKey, String)>,
}

impl Seen {
    /// Remembers a delivery, and returns true if it is new. The oldest one is forgotten.
    ///
    /// Deliveries of each site are apart, so no tenant can use up the name of another one's.
    pub fn is_new(&mut self, site: &SiteKey, delivery: &str) -> bool {
        let delivery = (site.clone(), delivery.to_owned());
        if !self.known.insert(delivery.clone()) {
            return false;
        }
        self.order.push_back(delivery);
        if self.order.len() > DELIVERIES_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::{DELIVERIES_MAX, Seen};
    use crate::key::SiteKey;

    #[test]
    fn a_replay_is_known_and_memory_is_bounded() {
        let mut seen = Seen::default();
        let (a, b) = (SiteKey::new("t", "a").unwrap(), SiteKey::new("t", "b").unwrap());
        assert!(seen.is_new(&a, "1") && !seen.is_new(&a, "1") && seen.is_new(&b, "1"));
        for number in 0..DELIVERIES_MAX {
            assert!(seen.is_new(&b, &format!("n{number}")));
        }
        assert_eq!((seen.order.len(), seen.known.len()), (DELIVERIES_MAX, DELIVERIES_MAX));
        assert!(seen.is_new(&a, "1"), "the oldest one is forgotten");
    }
}
