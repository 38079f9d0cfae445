//! An NTP client (RFC 5905, client mode; the checks of RFC 4330, 5; RFC 9109's random ports).
//!
//! [`packet`] and [`selection`] are pure functions, [`discipline`] is a state machine that
//! gets the time as an argument. Only [`shell`] touches the machine: it asks, and it does what the
//! discipline says. The clock itself is steered by the kernel's phase-locked loop (adjtimex(2)).
//!
//! Why not a library: ntp-proto needs tokio and rustls, and is made for authenticated time and
//! serving, which this pod does not do.

pub mod discipline;
pub mod packet;
pub mod selection;
pub mod shell;

/// A moment of `CLOCK_BOOTTIME`, which does not jump when the clock is set.
pub type Time = std::time::Duration;

/// Nanoseconds: a time since 1970 in UTC, or a difference of two. Until the year 2262.
pub type Nanos = i64;

/// Nanoseconds in a second.
pub const SECOND: Nanos = 1_000_000_000;
/// Nanoseconds in a millisecond.
pub const MILLISECOND: Nanos = 1_000_000;
