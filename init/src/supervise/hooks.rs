//! Faults in PID 1's own code, and a time that runs faster, for a build that only tests boot.
//!
//! Without the feature `test-hooks`, which no shipped image has, nothing of this is in the binary.

use std::time::Duration;

/// Every pause before a restart, in place of the supervisor's own: a thousand restarts in a minute.
pub const PAUSE: Option<Duration> =
    if cfg!(feature = "test-hooks") { Some(Duration::from_millis(10)) } else { None };

/// Does what the word `panic` on the power FIFO asks for.
///
/// # Panics
///
/// For that word.
pub fn panic_if_asked(line: &str) {
    assert!(!cfg!(feature = "test-hooks") || line != "panic", "a test asked for it");
}
