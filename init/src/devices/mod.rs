//! Devices and their modules: at boot, and when hardware appears later.

pub mod coldplug;
pub mod device;
pub mod hotplug;
pub mod queue;
pub mod unknown;
