//! Messages to the console, through the kernel's log.

pub mod kmsg;
pub mod once;
