//! Kernel interfaces that several rooms use: control groups, sysctls, netlink, input devices.

pub mod cgroup;
pub mod evdev;
pub mod mountinfo;
pub mod network;
pub mod sysctl;
pub mod uevent;
