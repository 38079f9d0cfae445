//! An NTP client (RFC 5905, client mode; the checks of RFC 4330, 5; RFC 9109's random ports).
//!
//! [`packet`] and [`selection`] are pure functions, and [`discipline`] is a state machine that gets
//! the time as an argument. Only [`shell`] touches the machine: it queries the servers and carries
//! out the discipline's actions. The kernel's phase-locked loop steers the clock (adjtimex(2)).
//!
//! The library ntp-proto is not used, because it needs tokio and rustls and is made for authenticated
//! time and for serving, which this pod does not do.

pub mod discipline;
pub mod packet;
pub mod selection;
pub mod shell;

/// A reading of `CLOCK_BOOTTIME`, which does not jump when the clock is set.
pub type Time = std::time::Duration;

/// Nanoseconds: a time since 1970 in UTC, until the year 2262, or a difference of two times.
pub type Nanos = i64;

/// Nanoseconds in a second.
pub const SECOND: Nanos = 1_000_000_000;
/// Nanoseconds in a millisecond.
pub const MILLISECOND: Nanos = 1_000_000;
