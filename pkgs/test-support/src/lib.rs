//! The harness of the tests that start a server and talk to it over loopback.
//!
//! Nothing here sleeps. A deadline only ends a test that would hang; no test waits for it to pass.
//! Everything panics on a failure, as a test does.

#![expect(clippy::unwrap_used, clippy::missing_panics_doc, reason = "all of this is test code")]
#![expect(clippy::must_use_candidate, reason = "a test may wait for a line and not read it")]

pub mod client;
pub mod pid1;
pub mod program;

use std::time::Duration;

/// Ends a test that would hang.
pub const DEADLINE: Duration = Duration::from_secs(40);
