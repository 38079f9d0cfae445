//! Small routines that PID 1, the builder and the pods share.
//!
//! A routine moves here when a second program needs it.
//! Everything is synchronous, starts no threads and depends only on rustix, because PID 1 uses it
//! too.
//!
//! * [`calendar`]: dates in UTC, and RFC 3339;
//! * [`crc`]: the checksum CRC-32;
//! * [`dns`]: DNS messages;
//! * [`json`]: text as a JSON string;
//! * [`replace`]: replacing a file without ever exposing a half-written file;
//! * [`time`]: clocks and deadlines as [`Duration`](std::time::Duration)s.

pub mod calendar;
pub mod crc;
pub mod dns;
pub mod json;
pub mod replace;
pub mod time;
