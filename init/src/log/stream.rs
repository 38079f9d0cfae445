//! The streams of the log: one pair of files each.

use crate::storage::var::Var;

/// Where the files are.
pub const FOLDER: &str = "/var/log";

/// The stream of PID 1's own lines.
pub const INIT: &str = "init";

/// The stream of the kernel's lines.
pub const KERNEL: &str = "kernel";

/// Everything that has a log file.
pub const STREAMS: [&str; 4] = ["containerd", "kubelet", KERNEL, INIT];

/// Bytes of one file where `/var` is in memory: 8 MiB for two files of each stream.
const FILE_IN_MEMORY: u64 = 1024 * 1024;

/// Bytes of one file on a data partition: 64 MiB for two files of each stream.
const FILE_ON_PARTITION: u64 = 8 * 1024 * 1024;

/// Bytes of each of a stream's two files.
#[must_use]
pub const fn file_max(var: Var) -> u64 {
    match var {
        Var::Memory => FILE_IN_MEMORY,
        Var::Partition => FILE_ON_PARTITION,
    }
}

/// The kernel's id of this boot.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// The id of this boot: a UUID, random at each boot.
#[must_use]
pub fn boot_id() -> String {
    std::fs::read_to_string(BOOT_ID).unwrap_or_default().trim().to_owned()
}
