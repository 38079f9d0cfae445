//! The harness of the tests that start a server and talk to it over loopback.
//!
//! Nothing here sleeps. A deadline only stops a test that would hang; no test waits for it to pass.
//! Everything panics on failure.

#![expect(clippy::unwrap_used, clippy::missing_panics_doc, reason = "all of this is test code")]
#![expect(clippy::must_use_candidate, reason = "a test may wait for a line and not read it")]

pub mod client;
pub mod exposition;
pub mod pid1;
pub mod program;

use std::time::Duration;

/// The time after which a test that hangs fails.
pub const DEADLINE: Duration = Duration::from_secs(40);
