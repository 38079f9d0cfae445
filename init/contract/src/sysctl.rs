//! The kernel settings of a node (Documentation/admin-guide/sysctl), as a table.
//!
//! The table is in this crate so that the builder can have `kernel-hardening-checker` judge it.
//! `docs/boot.md` has the table with the reasons.

/// The time at which a setting's file exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// From the start of the boot.
    Boot,
    /// Once its module is loaded, or only in some kernels.
    Offered,
}

use When::{Boot, Offered};

/// Name below `/proc/sys`, value, and time.
pub const TABLE: [(&str, &str, When); 60] = [
    // kubelet's protectKernelDefaults (pkg/kubelet/cm/container_manager_linux.go, util/sysctl).
    ("vm/overcommit_memory", "1", Boot),
    ("vm/panic_on_oom", "0", Boot),
    ("kernel/panic", "10", Boot),
    ("kernel/panic_on_oops", "1", Boot),
    ("kernel/keys/root_maxkeys", "1000000", Boot),
    ("kernel/keys/root_maxbytes", "25000000", Boot),
    // The kernel requests a power-off or reboot from PID 1 through the applets.
    ("kernel/poweroff_cmd", "/sbin/poweroff", Boot),
    ("kernel/modprobe", "/sbin/modprobe", Boot),
    // Information and features that the kernel gives to users other than root.
    ("kernel/kptr_restrict", "2", Boot),
    ("kernel/dmesg_restrict", "1", Boot),
    ("kernel/perf_event_paranoid", "3", Boot),
    ("kernel/unprivileged_bpf_disabled", "1", Boot),
    ("net/core/bpf_jit_harden", "2", Boot),
    ("kernel/yama/ptrace_scope", "1", Boot),
    ("vm/unprivileged_userfaultfd", "0", Boot),
    // Features that a node does not need.
    ("kernel/kexec_load_disabled", "1", Boot),
    ("kernel/sysrq", "0", Boot),
    ("kernel/oops_limit", "100", Boot),
    ("dev/tty/ldisc_autoload", "0", Boot),
    ("dev/tty/legacy_tiocsti", "0", Offered),
    // No core dumps: the limit forbids them to processes that cannot raise it, the empty
    // pattern to all others.
    ("fs/suid_dumpable", "0", Boot),
    ("kernel/core_pattern", "", Boot),
    ("kernel/core_uses_pid", "0", Boot),
    // Unpredictable addresses.
    ("kernel/randomize_va_space", "2", Boot),
    ("vm/mmap_min_addr", "65536", Boot),
    ("vm/mmap_rnd_bits", "32", Boot),
    ("vm/mmap_rnd_compat_bits", "16", Offered),
    // Files in folders that many users can write to.
    ("fs/protected_hardlinks", "1", Boot),
    ("fs/protected_symlinks", "1", Boot),
    ("fs/protected_fifos", "2", Boot),
    ("fs/protected_regular", "2", Boot),
    // Enough watches, mappings and threads for many containers.
    ("fs/inotify/max_user_instances", "8192", Boot),
    ("fs/inotify/max_user_watches", "524288", Boot),
    ("vm/max_map_count", "262144", Boot),
    ("kernel/pid_max", "4194304", Boot),
    // Pods' packets are forwarded. A forwarding host accepts router advertisements only with 2.
    ("net/ipv4/ip_forward", "1", Boot),
    ("net/ipv6/conf/all/forwarding", "1", Boot),
    ("net/ipv6/conf/all/accept_ra", "2", Boot),
    ("net/ipv6/conf/default/accept_ra", "2", Boot),
    // Loose: with several networks an answer may arrive on another interface.
    ("net/ipv4/conf/all/rp_filter", "2", Boot),
    ("net/ipv4/conf/default/rp_filter", "2", Boot),
    // Other hosts cannot redirect a node's packets.
    ("net/ipv4/conf/all/accept_redirects", "0", Boot),
    ("net/ipv4/conf/default/accept_redirects", "0", Boot),
    ("net/ipv6/conf/all/accept_redirects", "0", Boot),
    ("net/ipv6/conf/default/accept_redirects", "0", Boot),
    ("net/ipv4/conf/all/secure_redirects", "0", Boot),
    ("net/ipv4/conf/default/secure_redirects", "0", Boot),
    ("net/ipv4/conf/all/send_redirects", "0", Boot),
    ("net/ipv4/conf/default/send_redirects", "0", Boot),
    ("net/ipv4/conf/all/accept_source_route", "0", Boot),
    ("net/ipv4/conf/default/accept_source_route", "0", Boot),
    ("net/ipv6/conf/all/accept_source_route", "0", Boot),
    ("net/ipv6/conf/default/accept_source_route", "0", Boot),
    ("net/ipv4/icmp_echo_ignore_broadcasts", "1", Boot),
    ("net/ipv4/icmp_ignore_bogus_error_responses", "1", Boot),
    ("net/ipv4/tcp_syncookies", "1", Boot),
    ("net/ipv4/tcp_rfc1337", "1", Boot),
    // A pod on the host's network, such as the gateway, needs no capability for the ports of the Web.
    ("net/ipv4/ip_unprivileged_port_start", "80", Boot),
    // Service rules see the packets of bridged pods.
    ("net/bridge/bridge-nf-call-iptables", "1", Offered),
    ("net/bridge/bridge-nf-call-ip6tables", "1", Offered),
];

#[cfg(test)]
mod tests {
    use super::{TABLE, When};

    #[test]
    fn every_setting_is_listed_once() {
        let mut names: Vec<_> = TABLE.iter().map(|line| line.0).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), TABLE.len());
    }

    #[test]
    fn the_settings_that_kubelet_checks_are_made_at_boot() {
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
