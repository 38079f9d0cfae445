//! What the last steps do: end what is left, unmount, sync. All of it may hang in the kernel, so
//! unmounting and syncing run in children; PID 1 waits for them no longer than their step's time.

use std::ffi::CString;
use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal};

use crate::mountinfo;
use crate::spawn::{self, Child};

/// Attempts to unmount `/var`: the log thread may still hold a file.
const ATTEMPTS: u32 = 50;

/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(20);

/// Mount points to leave, last mounted first: all but the root and the kernel's own file systems.
#[must_use]
pub fn to_unmount(text: &str) -> Vec<Vec<u8>> {
    let kernel = [&b"/dev"[..], b"/proc", b"/sys"];
    let mut points = mountinfo::points(text);
    points.retain(|point| {
        point != b"/" && !kernel.iter().any(|folder| mountinfo::is_below(point, folder))
    });
    points.reverse();
    points
}

/// Starts a child that unmounts everything, `/var` for good and the rest lazily.
///
/// Lazily is as good: no process is left to hold them, and a lazy unmount cannot fail as busy.
pub fn unmount() -> Result<Child> {
    let mountinfo = fs::read_to_string(mountinfo::SELF).context("read mountinfo")?;
    let points: Vec<CString> =
        to_unmount(&mountinfo).into_iter().filter_map(|point| CString::new(point).ok()).collect();
    let work = || {
        close_inherited();
        for point in &points {
            if point.as_bytes() == b"/var" {
                unmount_var();
            } else {
                // SAFETY: the path is a C string.
                unsafe { libc::umount2(point.as_ptr(), libc::MNT_DETACH | libc::UMOUNT_NOFOLLOW) };
            }
        }
        0
    };
    // SAFETY: the closure makes system calls only, on memory that was allocated before.
    unsafe { spawn::helper(work) }
}

/// In the child: gives up PID 1's descriptors, or its log files keep `/var` busy. Nothing is
/// printed afterwards.
fn close_inherited() {
    // SAFETY: the child uses no descriptor any more.
    unsafe { libc::syscall(libc::SYS_close_range, 3, u32::MAX, 0) };
}

/// Tries for a while, then makes it read-only, then detaches it. System calls only.
fn unmount_var() {
    let var = c"/var".as_ptr();
    for _ in 0..ATTEMPTS {
        // SAFETY: the path is a C string.
        if unsafe { libc::umount2(var, 0) } == 0 {
            return;
        }
        let pause = libc::timespec { tv_sec: 0, tv_nsec: i64::from(PAUSE.subsec_nanos()) };
        // SAFETY: the pointer is valid; no remaining time is asked for.
        unsafe { libc::nanosleep(&raw const pause, std::ptr::null_mut()) };
    }
    let none = std::ptr::null();
    let flags = libc::MS_REMOUNT | libc::MS_RDONLY;
    // SAFETY: the path is a C string, and a remount needs no other argument.
    unsafe { libc::mount(none, var, none, flags, none.cast()) };
    // SAFETY: the path is a C string.
    unsafe { libc::umount2(var, libc::MNT_DETACH) };
}

/// Starts a child that syncs all file systems.
pub fn sync() -> Result<Child> {
    let work = || {
        // SAFETY: sync has no preconditions.
        unsafe { libc::sync() };
        0
    };
    // SAFETY: the closure makes one system call.
    unsafe { spawn::helper(work) }
}

/// Sends a signal to some processes; those that have ended meanwhile are no error.
pub fn signal_all(pids: &[i32], signal: Signal) {
    for pid in pids.iter().copied().filter(|&pid| pid > 1).filter_map(Pid::from_raw) {
        let _ = rustix::process::kill_process(pid, signal);
    }
}

/// Sends a signal to every process but PID 1.
pub fn signal_everything(signal: Signal) {
    // SAFETY: kill has no memory effects; -1 leaves out the caller when it is PID 1 (kill(2)).
    unsafe { libc::kill(-1, signal.as_raw()) };
}

#[cfg(test)]
mod tests {
    use super::to_unmount;

    #[test]
    fn the_last_mounted_comes_first_and_the_kernel_s_stay() {
        let line = |point: &str| format!("1 1 0:1 / {point} rw - x x rw\n");
        let mounted = ["/", "/dev", "/dev/pts", "/run", "/var", "/var/lib/a", "/device"];
        let text: String = mounted.into_iter().map(line).collect();
        let expected = ["/device", "/var/lib/a", "/var", "/run"];
        assert_eq!(to_unmount(&text), expected.map(|point| point.as_bytes().to_vec()));
    }
}
