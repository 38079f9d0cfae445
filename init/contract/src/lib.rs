//! The names that the builder, PID 1 and the pods must agree on.
//!
//! One side writes them, another reads them, and nothing but this crate keeps the two equal.
//! So everything here is a constant or a pure function; there is no I/O.

pub mod archive;
pub mod cgroup;
pub mod console;
pub mod path;
pub mod pod;
pub mod root;
pub mod setting;
pub mod sysctl;
