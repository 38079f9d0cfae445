//! Random numbers for transaction ids and jitter: `SplitMix64` (Steele, Lea, Flood: "Fast splittable
//! pseudorandom number generators", 2014). The same seed gives the same numbers, so tests are repeatable.

use std::time::Duration;

#[derive(Debug, Clone)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Returns a new transaction id.
    pub(crate) fn id(&mut self) -> u32 {
        let [a, b, c, d, ..] = self.next().to_ne_bytes();
        u32::from_ne_bytes([a, b, c, d])
    }

    /// Returns `delay`, made shorter or longer by at most a quarter and at most one second (RFC 2131,
    /// 4.1).
    pub(crate) fn jitter(&mut self, delay: Duration) -> Duration {
        let width = (delay / 4).min(Duration::from_secs(1));
        delay.saturating_sub(width) + width * 2 * (self.id() >> 16) / (1 << 16)
    }
}

#[cfg(test)]
mod tests {
    use super::Random;
    use proptest::prelude::*;
    use std::time::Duration;

    proptest! {
        #[test]
        fn jitter_stays_within_a_quarter_and_a_second(seed: u64, millis in 0_u64..100_000) {
            let delay = Duration::from_millis(millis);
            let width = (delay / 4).min(Duration::from_secs(1));
            let jittered = Random::new(seed).jitter(delay);
            prop_assert!(delay.abs_diff(jittered) <= width);
        }
    }
}
