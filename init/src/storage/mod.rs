//! Disks: finding the data partition and mounting it, and reading a `NoCloud` disk.

mod controllers;
pub mod data;
pub mod drivers;
pub mod gpt;
pub mod nocloud;
pub mod signature;
pub mod var;
