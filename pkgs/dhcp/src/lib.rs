//! A `DHCPv4` client (RFC 2131, options of RFC 2132, 3397 and 3442) for one Ethernet interface.
//!
//! The protocol does no I/O: [`client::Client`] gets the time and messages as arguments and returns
//! actions. [`message`], [`frame`], [`lease`], [`resolver`] and [`netlink`] convert between bytes and
//! checked values. Only [`shell`] touches the machine.
//!
//! The codecs are our own, because `dhcproto` (with its 70 dependencies) adds 220 kB to the program
//! and `netlink-packet-route` adds 540 kB, together more than the rest of the program.

pub mod client;
pub mod frame;
pub mod lease;
pub mod message;
pub mod netlink;
mod random;
pub mod resolver;
pub mod shell;

/// A reading of `CLOCK_BOOTTIME`, which does not jump when the clock is set and which, like a
/// lease's time, keeps counting while the machine sleeps.
pub type Time = std::time::Duration;
