//! Latencies in buckets of 3 %, with constant memory and no allocation during a measurement.

use std::time::Duration;

/// Buckets for each power of two.
const BUCKETS: u32 = 32;

/// A counter for each bucket.
#[derive(Debug)]
pub struct Histogram {
    counts: Vec<u64>,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: vec![0; (64 * BUCKETS) as usize] }
    }
}

impl Histogram {
    /// Counts a latency.
    pub fn add(&mut self, latency: Duration) {
        let nanos = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        self.counts[bucket(nanos)] += 1;
    }

    /// Returns the nanoseconds that this share (0 to 1) of all latencies does not exceed; 0 if there are no
    /// latencies.
    pub fn quantile(&self, share: f64) -> u64 {
        let all: u64 = self.counts.iter().sum();
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "counts are far below 2^52, the share is not negative"
        )]
        let wanted = ((all as f64 * share).ceil() as u64).max(1);
        let mut seen = 0;
        for (index, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return upper(index);
            }
        }
        0
    }
}

fn bucket(nanos: u64) -> usize {
    let power = nanos.max(1).ilog2();
    let within = if power >= 5 { nanos >> (power - 5) } else { nanos << (5 - power) } & 31;
    (power * BUCKETS) as usize + usize::try_from(within).unwrap_or(0)
}

/// Returns the first value above a bucket.
fn upper(index: usize) -> u64 {
    let (power, within) = (index / BUCKETS as usize, (index % BUCKETS as usize) as u64);
    ((u128::from(33 + within) << power) >> 5).try_into().unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::Histogram;
    use std::time::Duration;

    #[test]
    fn a_quantile_is_correct_to_four_percent() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.quantile(0.5), 0);
        (1..=1000).for_each(|micros| histogram.add(Duration::from_micros(micros)));
        for (share, nanos) in [(0.5, 500_000), (0.99, 990_000), (1.0, 1_000_000)] {
            let found = histogram.quantile(share);
            assert!((nanos..nanos * 104 / 100).contains(&found), "{share}: {found}");
        }
    }
}
