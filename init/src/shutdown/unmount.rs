//! Unmounts and syncs. Both may hang in the kernel, so children do it, and PID 1 waits for them no
//! longer than the time of their stage.

use std::ffi::{CStr, CString};
use std::fs;

use anyhow::{Context, Result};
use rustix::fs::{Mode, OFlags};

use crate::kernel::mountinfo;
use crate::process::spawn::{self, Child};

/// The number of attempts to unmount `/var`, on which the log thread may still hold a file.
const ATTEMPTS_MAX: u32 = 50;

/// The number of attempts to reap all helpers of an unmount.
const REAPS_MAX: u32 = 75;

/// The pause between two attempts.
static PAUSE: libc::timespec = libc::timespec { tv_sec: 0, tv_nsec: 20_000_000 };

/// The time for the kernel's emergency remount, in attempts.
const REMOUNT: u32 = 25;

/// The number of helpers of an unmount. If a node has more volumes, the rest are unmounted in
/// sequence.
const HELPERS_MAX: usize = 256;

/// File systems in memory. Unmounting them waits for no device and no server.
const MEMORY: [&str; 16] = [
    "bpf",
    "cgroup2",
    "configfs",
    "devpts",
    "devtmpfs",
    "efivarfs",
    "erofs",
    "hugetlbfs",
    "mqueue",
    "nsfs",
    "proc",
    "ramfs",
    "securityfs",
    "sysfs",
    "tmpfs",
    "tracefs",
];

/// A mount to unmount.
#[derive(Debug, PartialEq, Eq)]
struct Leaving {
    point: CString,
    /// True if unmounting may wait for a device, a server or a program forever.
    may_hang: bool,
}

/// Returns the mounts to unmount, the last one first: all but the root and the kernel's file
/// systems.
#[must_use]
fn to_unmount(text: &str) -> Vec<Leaving> {
    let kernel = [&b"/dev"[..], b"/proc", b"/sys"];
    let mut mounts = mountinfo::mounts(text);
    mounts.retain(|mount| {
        let point = &mount.point;
        point != b"/" && !kernel.iter().any(|folder| mountinfo::is_below(point, folder))
    });
    let leaving = mounts.into_iter().rev().filter_map(|mount| {
        let may_hang = !MEMORY.contains(&mount.kind.as_str());
        Some(Leaving { point: CString::new(mount.point).ok()?, may_hang })
    });
    leaving.collect()
}

/// Starts a child that unmounts `/var` completely and everything else lazily.
///
/// Lazily is sufficient, because no process is left to hold the mounts, and a lazy unmount cannot
/// fail as busy. Each unmount that can hang gets a child of its own, so that a dead server does not
/// block the others.
pub fn unmount() -> Result<Child> {
    let mountinfo = fs::read_to_string(mountinfo::SELF).context("cannot read mountinfo")?;
    let leaving = to_unmount(&mountinfo);
    let work = || {
        close_inherited();
        unmount_all(&leaving);
        0
    };
    // SAFETY: the closure makes system calls only, on memory that was allocated before.
    unsafe { spawn::helper(work) }.context("cannot clone PID 1")
}

/// Closes PID 1's descriptors in the child, because its log files would keep `/var` busy. Nothing
/// can be printed after that.
fn close_inherited() {
    // SAFETY: the child uses no descriptor after this.
    unsafe { libc::syscall(libc::SYS_close_range, 3, u32::MAX, 0) };
}

/// Unmounts in the child, by system calls only.
fn unmount_all(leaving: &[Leaving]) {
    let mut helpers = 0;
    let others = leaving.iter().filter(|mount| mount.point.as_bytes() != b"/var");
    for mount in others {
        let detach = || detach(&mount.point);
        // SAFETY: the closure makes one system call.
        if mount.may_hang && helpers < HELPERS_MAX && unsafe { spawn::helper(detach) }.is_ok() {
            helpers += 1;
        } else {
            detach();
        }
    }
    wait_for_helpers();
    if leaving.iter().any(|mount| mount.point.as_bytes() == b"/var") {
        unmount_var();
    }
}

fn detach(point: &CStr) -> i32 {
    // SAFETY: the path is a C string.
    unsafe { libc::umount2(point.as_ptr(), libc::MNT_DETACH | libc::UMOUNT_NOFOLLOW) }
}

/// Waits for the helpers for a limited time. Hanging helpers are abandoned.
fn wait_for_helpers() {
    for _ in 0..REAPS_MAX {
        // SAFETY: the status pointer may be null.
        while unsafe { libc::waitpid(-1, std::ptr::null_mut(), libc::WNOHANG) } > 0 {}
        // SAFETY: as above; an error means that no child is left.
        if unsafe { libc::waitpid(-1, std::ptr::null_mut(), libc::WNOHANG) } < 0 {
            return;
        }
        pause();
    }
}

fn pause() {
    // SAFETY: the pointer is valid, and the pointer for the remaining time may be null.
    unsafe { libc::nanosleep(&raw const PAUSE, std::ptr::null_mut()) };
}

/// Tries to unmount `/var` for a while. If that fails, remounts it read-only, by the kernel's force
/// if necessary, and detaches it.
fn unmount_var() {
    let var = c"/var".as_ptr();
    for _ in 0..ATTEMPTS_MAX {
        // SAFETY: the path is a C string.
        if unsafe { libc::umount2(var, 0) } == 0 {
            return;
        }
        pause();
    }
    let none = std::ptr::null();
    let flags = libc::MS_REMOUNT | libc::MS_RDONLY;
    // SAFETY: the path is a C string, and a remount needs no other argument.
    if unsafe { libc::mount(none, var, none, flags, none.cast()) } != 0 {
        remount_by_force();
    }
    detach(c"/var");
}

/// Remounts read-only by sysrq, which ignores open files. A kernel thread does the work.
fn remount_by_force() {
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    if let Ok(trigger) = rustix::fs::open(c"/proc/sysrq-trigger", flags, Mode::empty()) {
        let _ = rustix::io::write(&trigger, b"u");
        (0..REMOUNT).for_each(|_| pause());
    }
}

/// Starts a child that syncs all file systems.
pub fn sync() -> Result<Child> {
    let work = || {
        // SAFETY: sync has no preconditions.
        unsafe { libc::sync() };
        0
    };
    // SAFETY: the closure makes one system call.
    unsafe { spawn::helper(work) }.context("cannot clone PID 1")
}

#[cfg(test)]
mod tests {
    use super::to_unmount;

    fn points(mounted: &[(&str, &str)]) -> Vec<(String, bool)> {
        let line = |(point, kind): &(&str, &str)| format!("1 1 0:1 / {point} rw - {kind} x rw\n");
        let text: String = mounted.iter().map(line).collect();
        let leaving = to_unmount(&text).into_iter();
        leaving.map(|mount| (mount.point.into_string().unwrap(), mount.may_hang)).collect()
    }

    #[test]
    fn the_last_mount_comes_first_and_kernel_file_systems_stay() {
        let mounted = ["/", "/dev", "/dev/pts", "/run", "/var", "/var/lib/a", "/device"];
        let found = points(&mounted.map(|point| (point, "tmpfs")));
        let expected = ["/device", "/var/lib/a", "/var", "/run"];
        assert_eq!(found, expected.map(|point| (point.to_owned(), false)));
    }

    #[test]
    fn mounts_with_a_device_a_server_or_a_program_behind_them_may_hang() {
        let kinds = ["ext4", "fuse.sshfs", "nfs4", "overlay", "tmpfs", "new-one"];
        let mounted: Vec<_> = kinds.iter().map(|kind| ("/a", *kind)).collect();
        let hang: Vec<bool> = points(&mounted).into_iter().map(|(_, may_hang)| may_hang).collect();
        assert_eq!(hang, [true, false, true, true, true, true]);
    }
}
