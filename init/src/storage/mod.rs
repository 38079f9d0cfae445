//! Disks: finding the data partition and mounting it.

mod controllers;
pub mod data;
pub mod drivers;
pub mod gpt;
pub mod signature;
pub mod var;
