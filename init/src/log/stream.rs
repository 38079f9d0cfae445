//! The streams of the log. Each has a pair of files.

use crate::storage::var::Var;

/// The folder of the files.
pub const FOLDER: &str = "/var/log";

/// The stream of PID 1's own lines.
pub const INIT: &str = "init";

/// The stream of the kernel's lines.
pub const KERNEL: &str = "kernel";

/// All streams.
pub const STREAMS: [&str; 4] = ["containerd", "kubelet", KERNEL, INIT];

/// The size limit of a file if `/var` is in memory: 8 MiB for two files of each stream.
const FILE_IN_MEMORY: u64 = 1024 * 1024;

/// The size limit of a file on a data partition: 64 MiB for two files of each stream.
const FILE_ON_PARTITION: u64 = 8 * 1024 * 1024;

/// Returns the size limit of each of a stream's two files, in bytes.
#[must_use]
pub const fn file_max(var: Var) -> u64 {
    match var {
        Var::Memory => FILE_IN_MEMORY,
        Var::Partition => FILE_ON_PARTITION,
    }
}

/// The kernel's file with the id of this boot.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Returns the id of this boot, a random UUID.
#[must_use]
pub fn boot_id() -> String {
    std::fs::read_to_string(BOOT_ID).unwrap_or_default().trim().to_owned()
}
