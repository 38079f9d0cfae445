//! The part that touches the machine: interfaces, sockets, files.
//!
//! There is one thread with one poll loop. All decisions that need no I/O are made in the other
//! modules of the crate.

mod apply;
mod arguments;
mod daemon;
mod kernel;
mod packet;
mod store;

pub use arguments::Arguments;
pub use daemon::run;

use rustix::time::ClockId;

use crate::Time;

/// Reads the clock that [`Time`] is based on.
fn now() -> Time {
    kiln_base::time::now(ClockId::Boottime)
}
