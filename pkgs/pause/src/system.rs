//! The entry point and five system calls, which replace the C library.
//!
//! A static glibc takes 0.8 MB, of which this program would use nothing. Each architecture's ABI defines
//! the conventions used here; the tables in `man 2 syscall` list them.

use core::arch::{asm, naked_asm};

/// Signals as the kernel's 64-bit mask: signal N is bit N - 1.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(crate) struct Signals(u64);

impl Signals {
    /// The given signals, by number.
    pub(crate) const fn of<const N: usize>(signals: [i32; N]) -> Self {
        let (mut mask, mut index) = (0, 0);
        while index < N {
            mask |= 1 << (signals[index] - 1);
            index += 1;
        }
        Self(mask)
    }

    /// Size of the mask in bytes, an argument of the system calls.
    const SIZE: usize = size_of::<Self>();
}

/// The entry point of the program. The stack holds the number of arguments and then their addresses;
/// [`crate::start`] gets a pointer to it.
#[unsafe(naked)]
#[unsafe(no_mangle)]
pub(crate) extern "C" fn _start() -> ! {
    #[cfg(target_arch = "x86_64")]
    naked_asm!("mov rdi, rsp", "and rsp, -16", "call {}", "ud2", sym crate::start);
    #[cfg(target_arch = "aarch64")]
    naked_asm!("mov x0, sp", "bl {}", "brk 1", sym crate::start);
}

/// Makes a system call with up to four arguments; the result is negative for an error.
///
/// # Safety
///
/// The arguments must be valid for the call `number`.
unsafe fn call(number: libc::c_long, [a, b, c, d]: [usize; 4]) -> libc::c_long {
    let result: libc::c_long;
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the kernel changes rax, rcx, r11 and only memory that the caller passed for that.
    unsafe {
        asm!("syscall", inlateout("rax") number => result, in("rdi") a, in("rsi") b,
            in("rdx") c, in("r10") d, lateout("rcx") _, lateout("r11") _, options(nostack));
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: the kernel changes x0 and only memory that the caller passed for that.
    unsafe {
        asm!("svc 0", in("x8") number, inlateout("x0") a as libc::c_long => result, in("x1") b, in("x2") c,
            in("x3") d, options(nostack));
    }
    result
}

/// Keeps the signals pending instead of delivering them.
pub(crate) fn block(signals: Signals) {
    let mask = (&raw const signals) as usize;
    // SAFETY: the mask lives on this stack; a null old mask is allowed.
    unsafe { call(libc::SYS_rt_sigprocmask, [libc::SIG_BLOCK as usize, mask, 0, Signals::SIZE]) };
}

/// Sleeps until one of the blocked signals arrives and returns its number; negative if interrupted.
pub(crate) fn wait(signals: Signals) -> libc::c_long {
    let mask = (&raw const signals) as usize;
    // SAFETY: the mask lives on this stack; null information and time are allowed.
    unsafe { call(libc::SYS_rt_sigtimedwait, [mask, 0, 0, Signals::SIZE]) }
}

/// Reaps one child that has exited; returns false if there is no such child.
pub(crate) fn reap() -> bool {
    // SAFETY: a null status and a null rusage are allowed.
    unsafe { call(libc::SYS_wait4, [usize::MAX, 0, libc::WNOHANG as usize, 0]) > 0 }
}

/// Writes a short text; returns false if it was not written completely.
pub(crate) fn write(fd: usize, text: &str) -> bool {
    // SAFETY: the address and the length are those of one slice.
    let written = unsafe { call(libc::SYS_write, [fd, text.as_ptr() as usize, text.len(), 0]) };
    usize::try_from(written) == Ok(text.len())
}

/// Exits the process.
pub(crate) fn exit(code: usize) -> ! {
    loop {
        // SAFETY: the call does not return.
        unsafe { call(libc::SYS_exit_group, [code, 0, 0, 0]) };
    }
}
