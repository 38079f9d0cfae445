//! Disks: finding, making, mending and mounting the data partition, and reading a `NoCloud` disk.

mod check;
pub mod content;
pub mod controllers;
pub mod data;
mod decide;
mod disk;
pub mod drivers;
pub mod ext4;
#[cfg(test)]
mod fake;
pub mod gpt;
pub mod grow;
mod make;
pub mod mounted;
pub mod nocloud;
mod partition;
pub mod signature;
pub mod var;
