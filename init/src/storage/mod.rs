//! Disks: finding the data partition and mounting it.

pub mod data;
pub mod gpt;
