//! Small routines that PID 1, the builder and the pods share.
//!
//! A routine moves here with its second user.
//! Everything is synchronous, starts no thread and depends on nothing but rustix, because it runs
//! in PID 1 too.
//!
//! * [`calendar`]: dates in UTC, and RFC 3339;
//! * [`json`]: text as a JSON string;
//! * [`replace`]: replacing a file without a moment at which it is half written;
//! * [`time`]: clocks and deadlines as [`Duration`](std::time::Duration)s.

pub mod calendar;
pub mod json;
pub mod replace;
pub mod time;
