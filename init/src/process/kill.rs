//! Signals to many processes.

use rustix::process::{Pid, Signal};

/// Sends a signal to some processes. A process that has ended is not an error.
pub fn all(pids: &[i32], signal: Signal) {
    for pid in pids.iter().copied().filter(|&pid| pid > 1).filter_map(Pid::from_raw) {
        let _ = rustix::process::kill_process(pid, signal);
    }
}

/// Sends a signal to every process but PID 1.
pub fn everything(signal: Signal) {
    // SAFETY: kill has no memory effects; -1 leaves out the caller when it is PID 1 (kill(2)).
    unsafe { libc::kill(-1, signal.as_raw()) };
}
