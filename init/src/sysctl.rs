//! Kernel settings (Documentation/admin-guide/sysctl), as a table.
//!
//! Set before kubelet starts, because with `protectKernelDefaults` it refuses to run on others.
//! Those that exist only after a module is loaded are set again by the second process.

use std::fs;
use std::path::PathBuf;

use crate::kmsg;

/// When a setting's file exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// From the start.
    Boot,
    /// After its module was loaded, if ever.
    Module,
}

/// Name below `/proc/sys`, value, when, and in the comments why.
pub const TABLE: [(&str, &str, When); 30] = [
    // kubelet's protectKernelDefaults (pkg/kubelet/cm/container_manager_linux.go, util/sysctl).
    ("vm/overcommit_memory", "1", When::Boot),
    ("vm/panic_on_oom", "0", When::Boot),
    ("kernel/panic", "10", When::Boot),
    ("kernel/panic_on_oops", "1", When::Boot),
    ("kernel/keys/root_maxkeys", "1000000", When::Boot),
    ("kernel/keys/root_maxbytes", "25000000", When::Boot),
    // The kernel's own wish to power off or reboot comes to PID 1 through the applets.
    ("kernel/poweroff_cmd", "/sbin/poweroff", When::Boot),
    ("kernel/modprobe", "/sbin/modprobe", When::Boot),
    // Kernel Self Protection Project, as far as containers do not need the opposite.
    ("kernel/kptr_restrict", "2", When::Boot),
    ("kernel/dmesg_restrict", "1", When::Boot),
    ("kernel/unprivileged_bpf_disabled", "1", When::Boot),
    ("kernel/yama/ptrace_scope", "1", When::Boot),
    ("net/core/bpf_jit_harden", "2", When::Boot),
    ("fs/suid_dumpable", "0", When::Boot),
    ("fs/protected_hardlinks", "1", When::Boot),
    ("fs/protected_symlinks", "1", When::Boot),
    ("fs/protected_fifos", "2", When::Boot),
    ("fs/protected_regular", "2", When::Boot),
    // Many containers: each has its watches, mappings and threads.
    ("fs/inotify/max_user_instances", "8192", When::Boot),
    ("fs/inotify/max_user_watches", "524288", When::Boot),
    ("vm/max_map_count", "262144", When::Boot),
    ("kernel/pid_max", "4194304", When::Boot),
    // Pods' packets are forwarded. A host that forwards takes router advertisements only with 2.
    ("net/ipv4/ip_forward", "1", When::Boot),
    ("net/ipv6/conf/all/forwarding", "1", When::Boot),
    ("net/ipv6/conf/all/accept_ra", "2", When::Boot),
    ("net/ipv6/conf/default/accept_ra", "2", When::Boot),
    // Loose: with several networks an answer may come in on another interface.
    ("net/ipv4/conf/all/rp_filter", "2", When::Boot),
    ("net/ipv4/conf/default/rp_filter", "2", When::Boot),
    // Service rules see the packets of bridged pods.
    ("net/bridge/bridge-nf-call-iptables", "1", When::Module),
    ("net/bridge/bridge-nf-call-ip6tables", "1", When::Module),
];

/// First of all: without it the death of PID 1 halts the machine for ever instead of rebooting it.
pub fn set_panic_delay() {
    let _ = fs::write("/proc/sys/kernel/panic", "10");
}

/// Switch for short RCU grace periods (Documentation/ABI, `/sys/kernel/rcu_expedited`).
const RCU_EXPEDITED: &str = "/sys/kernel/rcu_expedited";

/// Makes the kernel's grace periods short while the node boots, at the price of interrupts.
///
/// Mounts, control groups, modules and network namespaces wait for many of them one after another.
pub fn hurry_rcu() {
    let _ = fs::write(RCU_EXPEDITED, "1");
}

/// Ends what [`hurry_rcu`] began: running pods must not pay for others' starts.
pub fn calm_rcu() {
    let _ = fs::write(RCU_EXPEDITED, "0");
}

/// Sets all of one kind. A missing file is a warning at boot, and nothing for a module's.
pub fn apply(when: When) {
    for (name, value, _) in TABLE.iter().filter(|line| line.2 == when) {
        let file = PathBuf::from("/proc/sys").join(name);
        if when == When::Module && !file.exists() {
            continue;
        }
        if let Err(error) = fs::write(&file, value) {
            kmsg::warn(format_args!("sysctl {name}={value}: {error}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{TABLE, When};

    #[test]
    fn no_setting_comes_twice() {
        let mut names: Vec<_> = TABLE.iter().map(|line| line.0).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), TABLE.len());
    }

    #[test]
    fn what_kubelet_checks_has_its_value_at_boot() {
        for (name, value) in [
            ("vm/overcommit_memory", "1"),
            ("vm/panic_on_oom", "0"),
            ("kernel/panic", "10"),
            ("kernel/panic_on_oops", "1"),
            ("kernel/keys/root_maxkeys", "1000000"),
            ("kernel/keys/root_maxbytes", "25000000"),
        ] {
            assert!(TABLE.contains(&(name, value, When::Boot)), "{name}");
        }
    }
}
