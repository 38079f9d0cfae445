//! The time until a site is due again.

use std::time::Duration;

use crate::key::SiteKey;

/// The shortest interval of a site, as for the field `syncInterval`; a shorter one is raised.
pub const INTERVAL_MIN: Duration = Duration::from_secs(10);

/// The first wait after a failure.
const BACKOFF_MIN: Duration = Duration::from_secs(10);

/// The longest wait after failures, unless the interval is longer.
const BACKOFF_MAX: Duration = Duration::from_mins(30);

/// The shortest time between two fetches of one site. More webhooks cause no more fetches.
pub const GAP: Duration = Duration::from_secs(1);

/// Jitter moves a time by up to one part in this many, so that sites that were created together are
/// not fetched together.
const JITTER_PART: u32 = 10;

/// Returns the wait after a success.
#[must_use]
pub fn after_success(site: &SiteKey, interval: Duration, salt: u64) -> Duration {
    let interval = interval.max(INTERVAL_MIN);
    interval.saturating_sub(jitter(site, salt, interval / JITTER_PART))
}

/// Returns the wait after a number of failures in a row.
#[must_use]
pub fn after_failure(site: &SiteKey, interval: Duration, failures: u32, salt: u64) -> Duration {
    let doubled = BACKOFF_MIN.saturating_mul(1 << failures.saturating_sub(1).min(16));
    let wait = doubled.min(BACKOFF_MAX.max(interval));
    wait.saturating_sub(jitter(site, salt, wait / JITTER_PART))
}

/// Returns the wait of a site that is due at once after a start, spread over its interval.
#[must_use]
pub fn first(site: &SiteKey, interval: Duration) -> Duration {
    jitter(site, 0, interval.max(INTERVAL_MIN))
}

/// Returns a time from zero to `most` that depends on the site and the salt only.
fn jitter(site: &SiteKey, salt: u64, most: Duration) -> Duration {
    // FNV-1a, and a multiplication that spreads the low bits.
    let bytes = site.namespace().bytes().chain([b'/']).chain(site.name().bytes());
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    let hash = bytes.chain(salt.to_le_bytes()).fold(0xcbf2_9ce4_8422_2325, step);
    let part = u128::from(hash.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32);
    let nanos = (most.as_nanos() * part) >> 32;
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::{BACKOFF_MAX, after_failure, after_success, first};
    use crate::key::SiteKey;
    use std::time::Duration;

    fn site(number: u32) -> SiteKey {
        SiteKey::new("team", &format!("site-{number}")).unwrap()
    }

    #[test]
    fn jitter_spreads_and_is_bounded() {
        let interval = Duration::from_mins(5);
        let waits: Vec<u64> =
            (0..1000).map(|one| after_success(&site(one), interval, 7).as_secs()).collect();
        assert!(waits.iter().all(|wait| (269..=300).contains(wait)));
        let early = waits.iter().filter(|wait| **wait < 285).count();
        assert!((400..600).contains(&early), "{early} of 1000 in the first half");
        assert!((0..1000).all(|one| first(&site(one), interval) <= interval));
        assert_ne!(after_success(&site(1), interval, 1), after_success(&site(1), interval, 2));
    }

    #[test]
    fn failures_back_off_up_to_a_bound() {
        let wait = |failures| after_failure(&site(1), Duration::from_mins(5), failures, 0);
        assert!(wait(1) <= Duration::from_secs(10) && wait(1) >= Duration::from_secs(9));
        assert!(wait(2) > wait(1) && wait(3) > wait(2));
        assert!(wait(30) <= BACKOFF_MAX && wait(u32::MAX) >= BACKOFF_MAX * 9 / 10);
        let day = Duration::from_hours(24);
        assert!(after_failure(&site(1), day, 30, 0) >= day * 9 / 10, "polls never come faster");
    }

    #[test]
    fn a_short_interval_is_raised() {
        assert!(after_success(&site(1), Duration::ZERO, 0) >= Duration::from_secs(9));
    }
}
