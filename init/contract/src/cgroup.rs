//! Control groups of the host, as paths below the cgroup2 mount.
//!
//! kubelet's configuration names some of them, so they exist before kubelet starts.

/// The mount point of cgroup2.
pub const MOUNT: &str = "/sys/fs/cgroup";

/// PID 1 and its short-lived helpers. The root group holds kernel threads only.
pub const INIT: &str = "/init";

/// The parent of the host's services: kubelet's `systemReservedCgroup`.
pub const HOST: &str = "/host";

/// containerd and the shims that it starts: kubelet's `runtimeCgroups`.
pub const CONTAINERD: &str = "/host/containerd";

/// kubelet: its `kubeletCgroups`.
pub const KUBELET: &str = "/host/kubelet";

/// All pods. kubelet creates it (`cgroupDriver: cgroupfs`, `cgroupRoot: /`).
pub const PODS: &str = "/kubepods";
