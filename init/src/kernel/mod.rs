//! Kernel interfaces that several rooms use: files of strangers, control groups, mounts, loop devices,
//! sysctls, netlink, input devices.

pub mod address;
pub mod beneath;
pub mod cgroup;
pub mod evdev;
pub mod loop_device;
pub mod mount;
pub mod mountinfo;
pub mod network;
pub mod page_cache;
pub mod sysctl;
pub mod uevent;
