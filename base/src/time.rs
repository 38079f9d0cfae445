//! Clocks and deadlines of the kernel as [`Duration`]s.

use std::time::Duration;

use rustix::time::{ClockId, Timespec, clock_gettime};

/// Reads a clock. A wall clock that was set to before 1970 reads as 0.
#[must_use]
pub fn now(clock: ClockId) -> Duration {
    clock_gettime(clock).try_into().unwrap_or_default()
}

/// Converts a timeout to the form that `poll` and `epoll_wait` take. A time that the kernel cannot
/// express becomes the longest time that it can.
#[must_use]
pub fn timespec(time: Duration) -> Timespec {
    Timespec::try_from(time).unwrap_or(Timespec { tv_sec: i64::MAX, tv_nsec: 999_999_999 })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;
    use rustix::time::ClockId;

    use super::{now, timespec};

    #[test]
    fn the_boot_clock_is_never_behind_the_monotonic_clock() {
        let monotonic = now(ClockId::Monotonic);
        assert!(Duration::ZERO < monotonic && monotonic <= now(ClockId::Boottime));
    }

    proptest! {
        #[test]
        fn a_timeout_keeps_its_length_up_to_the_kernels_maximum(
            seconds: u64,
            nanos in 0_u32..1_000_000_000,
        ) {
            let time = Duration::new(seconds, nanos);
            let longest = Duration::new(i64::MAX.unsigned_abs(), 999_999_999);
            prop_assert_eq!(Duration::try_from(timespec(time)).unwrap(), time.min(longest));
        }
    }
}
