//! Durations in the form that system calls take.

use std::time::Duration;

use rustix::event::Timespec;

/// A duration as poll takes it; never negative.
#[must_use]
pub fn timespec(duration: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(duration.subsec_nanos()),
    }
}
