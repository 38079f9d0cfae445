//! Faults in PID 1's own code and shorter pauses, for a build that is booted only by tests.
//!
//! They are compiled in only with the feature `test-hooks`, which no shipped image has.

use std::time::Duration;

/// A pause that replaces the supervisor's pauses before a restart, so that a thousand restarts take
/// a minute.
pub const PAUSE: Option<Duration> =
    if cfg!(feature = "test-hooks") { Some(Duration::from_millis(10)) } else { None };

/// Panics if the line from the power FIFO is `panic`.
///
/// # Panics
///
/// If the line is `panic`, in a build with the feature `test-hooks`.
pub fn panic_if_asked(line: &str) {
    assert!(!cfg!(feature = "test-hooks") || line != "panic", "a test asked for it");
}
