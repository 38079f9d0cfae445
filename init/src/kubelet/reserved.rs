//! Decides the memory that pods do not get (`systemReserved`), and the free memory below which kubelet
//! evicts pods (`evictionHard`). Pure, except for [`Machine::read`].
//!
//! kubelet limits the group of all pods to the node's memory less the reserve. A pod that takes more
//! is killed within this group, so a reserve that covers all the rest keeps the kernel from choosing a
//! victim among all processes. A file in memory counts for the process that wrote it first: what pods
//! write to an in-memory `/var` is limited with them, and what the host writes there, such as pulled
//! images, is not.

use std::fmt::Write;

use kiln_contract::path;
use rustix::fs::statvfs;

const MIB: u64 = 1 << 20;

/// The kernel, PID 1, containerd and kubelet of a small node, without the root.
///
/// An estimate, from their resident memory: kubelet has 64 to 72 MB and containerd 53 MB, of which the
/// pages of their programs belong to the root.
const BASE: u64 = 96 * MIB;

/// The divisor of the memory that gives the kernel's tables, and its memory for each processor.
const KERNEL_PART: u64 = 64;
const PROCESSOR: u64 = 2 * MIB;

/// A pod's shim: its memory that other shims do not share.
const SHIM: u64 = 6 * MIB;

/// The memory for which one pod is expected, and kubelet's limit of pods (`maxPods`).
const MEMORY_OF_POD: u64 = 64 * MIB;
const PODS_MAX: u64 = 110;

/// The divisor of the memory that gives what the host itself writes to an in-memory `/var`.
const VAR_PART: u64 = 8;

/// The largest part of the memory that is reserved, in eighths, so that a small node runs pods.
const EIGHTHS_MAX: u64 = 5;

/// The bounds of the free memory below which pods are evicted, and its divisor of the memory. kubelet
/// looks every 10 s, so a larger node, on which more is written in this time, needs more.
const EVICTION_MIN: u64 = 32 * MIB;
const EVICTION_MAX: u64 = 256 * MIB;
const EVICTION_PART: u64 = 32;

/// The facts about a machine, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Machine {
    /// The memory that the kernel manages.
    pub memory: u64,
    /// The number of processors.
    pub processors: u64,
    /// The root and the pods' images, which are in memory.
    pub root: u64,
    /// The sizes of `/var` and of `/var/log/pods`, if they are in memory.
    pub var: Option<(u64, u64)>,
}

/// Memory that is kept from pods, in MiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reserved {
    system: u64,
    eviction: u64,
}

impl Machine {
    /// Reads the facts. `in_memory` is true if `/var` is in memory, because a disk could hang.
    #[must_use]
    pub fn read(in_memory: bool) -> Self {
        let info = rustix::system::sysinfo();
        let size = |path: &str| statvfs(path).map_or(0, |stat| stat.f_blocks * stat.f_frsize);
        let processors = std::thread::available_parallelism().map_or(1, |count| count.get() as u64);
        Self {
            memory: info.totalram.saturating_mul(info.mem_unit.into()),
            processors,
            root: size("/") + size(path::PODS),
            var: in_memory.then(|| (size("/var"), size("/var/log/pods"))),
        }
    }
}

/// Decides.
#[must_use]
pub fn reserve(machine: &Machine) -> Reserved {
    let Machine { memory, processors, root, var } = *machine;
    let shims = (memory / MEMORY_OF_POD).min(PODS_MAX) * SHIM;
    let kernel = memory / KERNEL_PART + processors * PROCESSOR;
    let var = var.map_or(0, |(var, pod_logs)| var.min(memory / VAR_PART) + pod_logs);
    let system = (BASE + root + kernel + shims + var).min(memory / 8 * EIGHTHS_MAX);
    let eviction = (memory / EVICTION_PART).clamp(EVICTION_MIN, EVICTION_MAX);
    Reserved { system: system.div_ceil(MIB), eviction: eviction.div_ceil(MIB) }
}

/// True if a configuration of kubelet has a reserve of its own, which then counts.
#[must_use]
pub fn is_configured(text: &str) -> bool {
    text.lines().any(|line| line.starts_with("systemReserved:"))
}

impl Reserved {
    /// Returns a drop-in of kubelet's configuration, as JSON, which is YAML too. kubelet merges its maps
    /// into those of the base configuration.
    #[must_use]
    pub fn drop_in(self) -> String {
        let Self { system, eviction } = self;
        let mut out = String::from(
            "{\"apiVersion\":\"kubelet.config.k8s.io/v1beta1\",\"kind\":\"KubeletConfiguration\",\n",
        );
        let _ = writeln!(
            out,
            "\"systemReserved\":{{\"cpu\":\"100m\",\"memory\":\"{system}Mi\"}},\n\
             \"evictionHard\":{{\"memory.available\":\"{eviction}Mi\"}}}}",
        );
        out
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ROOT: u64 = 66 * MIB;

    /// Checks the reserve and the eviction threshold in MiB, for `/var` of half the memory.
    fn check(memory: u64, processors: u64, in_memory: bool, expected: (u64, u64)) {
        let memory = memory * MIB;
        let var = in_memory.then_some((memory / 2, memory / 20));
        let found = reserve(&Machine { memory, processors, root: ROOT, var });
        assert_eq!((found.system, found.eviction), expected);
    }

    #[test]
    fn the_reserve_grows_with_the_memory_the_shims_and_what_the_host_writes_to_var() {
        check(470, 1, true, (294, 32));
        check(470, 1, false, (214, 32));
        check(970, 2, true, (441, 32));
        check(970, 2, false, (272, 32));
        check(7900, 8, false, (962, 247));
        check(64_000, 32, false, (1886, 256));
        check(64_000, 32, true, (13_086, 256));
    }

    #[test]
    fn a_small_node_keeps_memory_for_pods() {
        check(300, 1, true, (188, 32));
        assert_eq!(300 - 188 - 32, 80);
    }

    #[test]
    fn an_images_own_reserve_counts() {
        assert!(is_configured("kind: KubeletConfiguration\nsystemReserved:\n  cpu: 100m\n"));
        assert!(!is_configured("# systemReserved:\nsystemReservedCgroup: /host\n"));
    }

    proptest! {
        #[test]
        fn pods_and_the_reserve_never_exceed_the_memory(
            memory in 64_u64..2_000_000,
            processors in 1_u64..512,
            root in 0_u64..200,
            var in prop::option::of((0_u64..1_000_000, 0_u64..100_000)),
        ) {
            let var = var.map(|(var, logs)| (var * MIB, logs * MIB));
            let machine = Machine { memory: memory * MIB, processors, root: root * MIB, var };
            let reserved = reserve(&machine);
            prop_assert!(reserved.system <= memory * 5 / 8 + 1);
            let more = reserve(&Machine { var: Some((u64::MAX >> 8, 0)), ..machine });
            let less = reserve(&Machine { var: None, ..machine });
            prop_assert!(more.system >= less.system);
            let json: serde_json::Value = serde_json::from_str(&reserved.drop_in()).unwrap();
            prop_assert!(json["systemReserved"]["memory"].as_str().unwrap().ends_with("Mi"));
        }
    }
}
