//! The tools, files and images that scenarios need.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::OnceLock;

use super::disks;
use crate::cluster::Tools;
use crate::host::HostTool;
use crate::qemu::Kernel;

/// The node's port of the probe pod.
pub const PROBE_PORT: u16 = 9090;

/// The tools and folders for every scenario of a run.
#[derive(Debug, Clone)]
pub struct Rig {
    /// `qemu-system-x86_64`.
    pub qemu: HostTool,
    /// OVMF's code.
    pub firmware: PathBuf,
    /// OVMF's empty variables.
    pub variables: PathBuf,
    /// The programs for the file systems of disks.
    pub disks: disks::Tools,
    /// The programs of a cluster, once they were made; only scenarios with a `cluster` need them.
    pub cluster: OnceLock<Tools>,
    /// The folder for disks and consoles.
    pub scratch: PathBuf,
    /// The folder `tests/vm`.
    pub dir: PathBuf,
}

impl Rig {
    /// The folder of the objects that scenarios apply to their cluster.
    pub fn objects(&self) -> PathBuf {
        self.dir.join("cluster")
    }

    /// The folder of the pages that the probe pod is expected to show.
    pub fn golden(&self) -> PathBuf {
        self.dir.join("golden")
    }
}

/// A finished image.
#[derive(Debug, Clone)]
pub struct Image {
    /// The file that firmware starts.
    pub efi: PathBuf,
    /// The file's parts, which QEMU starts for scenarios with `firmware = false`.
    pub kernel: Kernel,
}

/// The finished images that scenarios boot, by the names in their `boot` instructions.
pub type Images = BTreeMap<String, Image>;
