//! The part that touches the machine: interfaces, sockets, files.
//!
//! One thread, one poll loop. Everything that can be decided without I/O is decided in the modules
//! beside this one.

mod apply;
mod arguments;
mod daemon;
mod kernel;
mod packet;
mod store;

pub use arguments::Arguments;
pub use daemon::run;

use rustix::time::{ClockId, clock_gettime};

use crate::Time;

/// What the clock shows that [`Time`] is about.
fn now() -> Time {
    // The kernel's boot clock is never negative, and its nanoseconds are below 10^9.
    clock_gettime(ClockId::Boottime).try_into().unwrap_or_default()
}
