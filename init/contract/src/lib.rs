//! The names that the builder, PID 1 and the pods must agree on.
//!
//! Only this crate keeps the two sides of each name equal. It has constants and pure functions and
//! does no I/O.

pub mod archive;
pub mod cgroup;
pub mod console;
pub mod path;
pub mod pod;
pub mod root;
pub mod setting;
pub mod sysctl;
pub mod template;
