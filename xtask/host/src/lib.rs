//! The build host: starting programs, showing progress, running unpacked tools and virtual machines.
//!
//! The builder (`xtask`) and the measuring program (`benches/peers`) both build on this crate.
//! It knows nothing about packages, plans and configuration.

#![deny(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "they panic when the reader has gone; see `output`"
)]

pub mod environment;
pub mod job;
pub mod output;
pub mod port;
pub mod process;
pub mod progress;
pub mod qemu;
pub mod svg;
pub mod tool;
