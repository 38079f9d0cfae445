//! The mount table: file systems, mount points, flags, and the consequence of a failure.
//!
//! The order follows the needs of kubelet, containerd and runc (`docs/boot.md` has the table for
//! people). [`EARLY`] is mounted before the root, [`TREE`] in the root, and [`LATE`] by the helper
//! `kiln-coldplug`, because containerd does not need it to start.

use std::ffi::CString;
use std::path::Path;

use anyhow::{Context, Result};
use kiln_contract::path::VOLUME_PLUGINS;
use rustix::mount::MountFlags;

use crate::console::kmsg;

/// The consequence of a failed mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// The boot fails.
    Must,
    /// A warning. The programs that need the mount report it too.
    Want,
    /// A warning, except that a missing folder means that this kernel does not have the
    /// feature.
    WhereOffered,
}

/// One line of the mount table.
#[derive(Debug, Clone, Copy)]
pub struct Mount {
    /// The file system's type, which is also given as the source.
    pub kind: &'static str,
    /// The mount point. It is made if it is missing, except for [`Need::WhereOffered`].
    pub target: &'static str,
    /// The mount flags.
    pub flags: MountFlags,
    /// The file system's own options.
    pub data: &'static str,
    /// The consequence of a failure.
    pub need: Need,
}

const SUID_DEV: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV);
const SAFE: MountFlags = SUID_DEV.union(MountFlags::NOEXEC);

const fn mount(
    kind: &'static str,
    target: &'static str,
    flags: MountFlags,
    data: &'static str,
    need: Need,
) -> Mount {
    Mount { kind, target, flags, data, need }
}

/// Mounted before the root, and moved into the root later.
pub const EARLY: [Mount; 4] = [
    mount("devtmpfs", "/dev", MountFlags::NOSUID, "mode=0755", Need::Must),
    mount("proc", "/proc", SAFE, "", Need::Must),
    mount("sysfs", "/sys", SAFE, "", Need::Must),
    mount("cgroup2", "/sys/fs/cgroup", SAFE, "nsdelegate,memory_recursiveprot", Need::Must),
];

/// Mounted in the root. `/run` is mounted by the root stage, `/var` by the data stage.
pub const TREE: [Mount; 6] = [
    mount(
        "devpts",
        "/dev/pts",
        MountFlags::NOSUID.union(MountFlags::NOEXEC),
        "newinstance,gid=5,mode=620,ptmxmode=666",
        Need::Must,
    ),
    mount("tmpfs", "/dev/shm", SAFE, "mode=1777,size=25%", Need::Must),
    mount("tmpfs", "/tmp", SAFE, "mode=1777,size=25%", Need::Must),
    mount("tmpfs", "/etc", SAFE, "mode=0755,size=16m", Need::Must),
    OPT,
    // Pods install volume plugins here, kubelet watches the folder and executes them.
    mount("tmpfs", VOLUME_PLUGINS, SUID_DEV, "mode=0755,size=25%", Need::Want),
];

/// CNI pods install their plugins here, some of them 70 MB, and the host executes them. A data
/// partition has a folder that takes its place.
pub const OPT: Mount = mount("tmpfs", "/opt", SUID_DEV, "mode=0755,size=25%", Need::Must);

/// Mounts for pods, which containerd does not need to start. `kiln-coldplug` makes them.
///
/// The folders of the last two appear when modules are loaded.
pub const LATE: [Mount; 8] = [
    mount("bpf", "/sys/fs/bpf", SAFE, "mode=0700", Need::WhereOffered),
    mount("mqueue", "/dev/mqueue", SAFE, "", Need::Want),
    mount("hugetlbfs", "/dev/hugepages", SUID_DEV, "mode=0755", Need::Want),
    mount("securityfs", "/sys/kernel/security", SAFE, "", Need::WhereOffered),
    // Lockdown leaves only files that anybody may read. With `debugfs=off` the kernel has no folder.
    mount("debugfs", "/sys/kernel/debug", SAFE, "mode=0700", Need::WhereOffered),
    mount("tracefs", "/sys/kernel/tracing", SAFE, "mode=0700", Need::WhereOffered),
    mount("configfs", "/sys/kernel/config", SAFE, "", Need::WhereOffered),
    mount(
        "efivarfs",
        "/sys/firmware/efi/efivars",
        SAFE.union(MountFlags::RDONLY),
        "",
        Need::WhereOffered,
    ),
];

/// The records of a kernel crash. A helper mounts them, because mounting makes the kernel read all
/// EFI variables.
pub const PSTORE: Mount = mount("pstore", "/sys/fs/pstore", SAFE, "", Need::WhereOffered);

/// Mounts a table in order. Only the failure of a [`Need::Must`] is an error; others are warnings.
pub fn apply_all(table: &[Mount]) -> Result<()> {
    for line in table {
        match (line.apply(), line.need) {
            (Err(error), Need::Must) => return Err(error),
            (result, _) => drop(kmsg::warn_on_error(result)),
        }
    }
    Ok(())
}

impl Mount {
    fn apply(&self) -> Result<()> {
        if self.need == Need::WhereOffered && !Path::new(self.target).is_dir() {
            return Ok(());
        }
        // If a missing mount point cannot be made, the mount itself fails.
        let _ = std::fs::create_dir(self.target);
        self.attach(self.target, self.data)
    }

    /// Mounts at this target and with these options instead of the table's.
    pub fn attach(&self, target: &str, data: &str) -> Result<()> {
        let data = CString::new(data)?;
        rustix::mount::mount(self.kind, target, self.kind, self.flags, &*data)
            .with_context(|| format!("cannot mount {} on {target} ({data:?})", self.kind))
    }
}

/// Returns a tmpfs that is not in the tables because its target or size is known only at boot.
#[must_use]
pub const fn tmpfs(target: &'static str, data: &'static str) -> Mount {
    mount("tmpfs", target, SUID_DEV, data, Need::Must)
}

#[cfg(test)]
mod tests {
    use super::{EARLY, LATE, Mount, PSTORE, TREE};
    use kiln_contract::root::FOLDERS;

    fn all() -> impl Iterator<Item = Mount> {
        EARLY.into_iter().chain(TREE).chain(LATE).chain([PSTORE])
    }

    #[test]
    fn every_mount_point_outside_of_kernel_file_systems_is_a_folder_of_the_root() {
        for mount in all() {
            let kernel = ["/dev/", "/sys/"].iter().any(|prefix| mount.target.starts_with(prefix));
            assert!(kernel || FOLDERS.contains(&mount.target), "{}", mount.target);
        }
    }

    #[test]
    fn every_mount_point_is_listed_once() {
        let mut targets: Vec<_> = all().map(|mount| mount.target).collect();
        targets.sort_unstable();
        targets.dedup();
        assert_eq!(targets.len(), all().count());
    }
}
