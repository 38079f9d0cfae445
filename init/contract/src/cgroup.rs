//! Control groups of the host, as paths below the cgroup2 mount.
//!
//! kubelet's configuration names some of them, so they exist before it starts.

/// Where cgroup2 is mounted.
pub const MOUNT: &str = "/sys/fs/cgroup";

/// PID 1 and its short-lived helpers; the root group holds kernel threads only.
pub const INIT: &str = "/init";

/// Parent of the host's services: kubelet's `systemReservedCgroup`.
pub const HOST: &str = "/host";

/// containerd and, since it starts them, the shims: kubelet's `runtimeCgroups`.
pub const CONTAINERD: &str = "/host/containerd";

/// kubelet itself: its `kubeletCgroups`.
pub const KUBELET: &str = "/host/kubelet";

/// All pods. kubelet creates it (`cgroupDriver: cgroupfs`, `cgroupRoot: /`).
pub const PODS: &str = "/kubepods";
