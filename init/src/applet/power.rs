//! `poweroff` and `reboot`, which send PID 1 a signal and so need no file system.

/// Sends PID 1 the signal. The kernel calls these applets too (`kernel.poweroff_cmd`).
#[must_use]
pub fn ask(signal: i32) -> i32 {
    // SAFETY: kill has no memory effects.
    if unsafe { libc::kill(1, signal) } == 0 {
        return 0;
    }
    eprintln!("cannot signal PID 1: {}", std::io::Error::last_os_error());
    1
}
