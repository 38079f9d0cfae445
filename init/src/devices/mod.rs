//! Devices, their modules and their links: at boot, and when hardware appears later.

pub mod coldplug;
pub mod device;
pub mod disk;
pub mod hotplug;
pub mod nodes;
pub mod queue;
pub mod unknown;
