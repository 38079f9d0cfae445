//! A `DHCPv4` client (RFC 2131, options of RFC 2132, 3397 and 3442) for one Ethernet interface.
//!
//! The protocol is pure: [`client::Client`] gets the time and messages as arguments and answers with
//! actions. [`message`], [`frame`], [`lease`], [`resolver`] and [`netlink`] turn bytes into checked
//! values and back. Only [`shell`] touches the machine.
//!
//! Why codecs of our own: `dhcproto` (with its 70 dependencies) adds 220 kB to the program and
//! `netlink-packet-route` 540 kB, together more than the program without them.

pub mod client;
pub mod frame;
pub mod lease;
pub mod message;
pub mod netlink;
mod random;
pub mod resolver;
pub mod shell;

/// A moment: what `CLOCK_BOOTTIME` shows. It does not jump when the clock is set, and counts while
/// the machine sleeps, as leases do.
pub type Time = std::time::Duration;
