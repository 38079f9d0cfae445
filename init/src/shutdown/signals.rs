//! The signals that PID 1 handles.
//!
//! All of them come through one signalfd. The real-time signals have systemd's meaning (systemd(1),
//! "Signals"), so that programs which can ask systemd for a shutdown can ask Kiln. The code uses
//! libc, because nix has no real-time signals.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use crate::shutdown::power::Power;

/// The first real-time signal that the C library does not use itself.
const RTMIN: i32 = 34;

/// The signal for power-off, `SIGRTMIN+4`.
pub const POWER_OFF: i32 = RTMIN + 4;

/// The signal for reboot, `SIGRTMIN+5`.
pub const REBOOT: i32 = RTMIN + 5;

/// The signal for halt, `SIGRTMIN+3`.
pub const HALT: i32 = RTMIN + 3;

/// All signals that PID 1 handles.
const TAKEN: [i32; 7] =
    [libc::SIGCHLD, libc::SIGTERM, libc::SIGINT, libc::SIGPWR, HALT, POWER_OFF, REBOOT];

/// Returns the request that a signal stands for. SIGINT comes from ctrl-alt-del, SIGPWR from a UPS
/// or a hypervisor.
#[must_use]
pub fn request(signal: i32) -> Option<Power> {
    match signal {
        libc::SIGTERM | libc::SIGPWR | POWER_OFF => Some(Power::Off),
        libc::SIGINT | REBOOT => Some(Power::Reboot),
        HALT => Some(Power::Halt),
        _ => None,
    }
}

fn set(signals: &[i32]) -> libc::sigset_t {
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: sigemptyset initialises the whole set.
    unsafe { libc::sigemptyset(set.as_mut_ptr()) };
    // SAFETY: it was just initialised.
    let mut set = unsafe { set.assume_init() };
    for &signal in signals {
        // SAFETY: `set` is a valid set; an unknown signal only gives an error.
        unsafe { libc::sigaddset(&raw mut set, signal) };
    }
    set
}

/// Blocks the handled signals and makes ctrl-alt-del a signal. This is the first action of the
/// boot: the kernel drops signals to a PID 1 that neither blocks nor handles them, and ctrl-alt-del
/// would reset the machine. Blocked signals wait. Threads inherit the mask.
pub fn block() {
    let set = set(&TAKEN);
    // SAFETY: both pointers are valid or null as sigprocmask(2) allows; it fails for no valid set.
    unsafe { libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) };
    // A machine without a keyboard controller has no ctrl-alt-del, so a failure changes
    // nothing.
    let _ = rustix::system::reboot(rustix::system::RebootCommand::CadOff);
}

/// Returns the descriptor from which blocked signals are read.
pub fn take() -> io::Result<OwnedFd> {
    let set = set(&TAKEN);
    // SAFETY: `set` is valid, and -1 asks for a new descriptor.
    let fd = unsafe { libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: signalfd returned a new descriptor that has no other owner.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// A signal that arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signal {
    /// The signal's number.
    pub number: i32,
    /// The sender's pid; 0 is the kernel.
    pub sender: u32,
}

/// Reads all pending signals.
#[must_use]
pub fn pending(fd: &OwnedFd) -> Vec<Signal> {
    const SIZE: usize = size_of::<libc::signalfd_siginfo>();
    let mut signals = Vec::new();
    let mut buffer = [0_u8; SIZE];
    loop {
        // SAFETY: the buffer is valid for SIZE bytes.
        let read = unsafe { libc::read(fd.as_raw_fd(), buffer.as_mut_ptr().cast(), SIZE) };
        if read != SIZE.cast_signed() {
            return signals;
        }
        // `ssi_signo`, `ssi_errno`, `ssi_code`, `ssi_pid`: four bytes each (signalfd(2)).
        let field = |at: usize| {
            u32::from_ne_bytes([buffer[at], buffer[at + 1], buffer[at + 2], buffer[at + 3]])
        };
        signals.push(Signal { number: field(0).cast_signed(), sender: field(12) });
    }
}

#[cfg(test)]
mod tests {
    use super::{TAKEN, request};

    #[test]
    fn every_handled_signal_but_sigchld_is_a_request() {
        for signal in TAKEN {
            assert_eq!(request(signal).is_none(), signal == libc::SIGCHLD, "{signal}");
        }
    }
}
