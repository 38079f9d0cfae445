//! The build host: starting programs, showing progress, running unpacked tools and virtual machines.
//!
//! The builder (`xtask`) and the measuring program (`benches/peers`) both stand on this crate.
//! It knows no package, no plan and no configuration.

pub mod environment;
pub mod job;
pub mod process;
pub mod progress;
pub mod qemu;
pub mod tool;
