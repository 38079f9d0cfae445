//! Kernel parameters of Kiln's own, all below `kiln.`.

/// Prefix of every parameter; one that starts so and is not listed here is a warning on the console.
pub const PREFIX: &str = "kiln.";

/// Size of the in-memory `/var`, as tmpfs takes it (`40%`, `512m`). Default [`VAR_SIZE_DEFAULT`].
pub const VAR_SIZE: &str = "kiln.var-size";

/// A share of memory that leaves room for kubelet, containerd and pods on a machine of 512 MiB.
pub const VAR_SIZE_DEFAULT: &str = "50%";

/// Size of the file system of pods' logs where `/var` is in memory. Default [`POD_LOG_SIZE_DEFAULT`].
pub const POD_LOG_SIZE: &str = "kiln.pod-log-size";

/// 24 MiB of a machine with 512 MiB: a few containers with the two files of 4 MiB that kubelet
/// keeps of each.
pub const POD_LOG_SIZE_DEFAULT: &str = "5%";

/// The node's name, when neither the machine nor its owner gives a better one.
pub const HOSTNAME: &str = "kiln.hostname";

/// Sends containerd's and kubelet's output to the console: `kiln.log=console`.
pub const LOG: &str = "kiln.log";

/// Longest time in seconds that a shutdown waits for kubelet to stop its pods, whatever it asks for.
pub const SHUTDOWN_MAX: &str = "kiln.shutdown-max";

/// Longer than pods are given anywhere by default, and short enough for a machine that must go down.
pub const SHUTDOWN_MAX_DEFAULT: u64 = 600;

/// `kiln.nvram=off`: PID 1 writes no EFI variable.
pub const NVRAM: &str = "kiln.nvram";

/// Locks kernel modules once those for the hardware and those of the image's list are loaded: `kiln.lock-modules=yes`.
pub const LOCK_MODULES: &str = "kiln.lock-modules";

/// This boot is a trial: a service that keeps failing ends it (`kiln.trial=1`).
pub const TRIAL: &str = "kiln.trial";

/// How many reboots in 24 hours a service that keeps failing may cause; none by default.
pub const CURE_REBOOTS: &str = "kiln.cure-reboots";

/// Every parameter that PID 1 knows.
pub const ALL: [&str; 9] =
    [VAR_SIZE, POD_LOG_SIZE, HOSTNAME, LOG, SHUTDOWN_MAX, NVRAM, LOCK_MODULES, TRIAL, CURE_REBOOTS];
