//! Holds a pod's namespaces: the first process of every sandbox, for as long as the pod lives.
//!
//! It sleeps. Where the pod shares one PID namespace it is PID 1 of it and gets every orphan, so it
//! reaps. SIGTERM and SIGINT end it at once: one that ignored them would cost the whole grace
//! period at every deletion of a pod.
//!
//! One runs per pod, so size counts: no C library, no allocation, and nothing of the standard
//! library is left in the binary (some kilobytes instead of a megabyte).

#![no_main]
// Profiles that unwind need the standard library for it; the one that ships aborts.
#![cfg_attr(panic = "abort", no_std)]
// Otherwise the compiler may call strlen(3) and its like, which nobody provides here.
#![cfg_attr(panic = "abort", no_builtins)]

mod system;

use system::Signals;

const VERSION: &str = concat!("pause ", env!("CARGO_PKG_VERSION"), "\n");

/// `EX_USAGE` of `sysexits.h`.
const USAGE: usize = 64;

/// What ends it, and what tells of an orphan that has ended.
const SIGNALS: Signals = Signals::of([libc::SIGTERM, libc::SIGINT, libc::SIGCHLD]);

/// The first Rust function; `stack` is what the kernel has prepared.
///
/// # Safety
///
/// `stack` points to the number of arguments, that many addresses of strings, and a null pointer.
unsafe extern "C" fn start(stack: *const *const u8) -> ! {
    let first = stack.wrapping_add(2);
    // SAFETY: after the number and the program's name stands the first argument or the null pointer.
    let argument = unsafe { *first };
    if argument.is_null() {
        hold();
    }
    // SAFETY: it is not null, so it is the address of a string with its NUL.
    if unsafe { equal(argument, b"--version\0") } {
        system::exit(usize::from(!system::write(1, VERSION)));
    }
    system::write(2, "usage: pause [--version]\n");
    system::exit(USAGE)
}

/// Whether the string is `expected`, which includes its NUL.
///
/// # Safety
///
/// `string` points to bytes that end with a NUL.
unsafe fn equal(string: *const u8, expected: &[u8]) -> bool {
    expected.iter().enumerate().all(|(index, byte)| {
        let place = string.wrapping_add(index);
        // SAFETY: the bytes before are equal to those of `expected`, so none was the NUL.
        unsafe { *place == *byte }
    })
}

/// Reaps until it is told to end.
fn hold() -> ! {
    // The kernel drops unblocked signals that have their default action for PID 1.
    system::block(SIGNALS);
    loop {
        // First reap, then sleep: a child may have ended before the signal was blocked.
        // One SIGCHLD may stand for many children.
        while system::reap() {}
        let signal = system::wait(SIGNALS);
        if [libc::SIGTERM, libc::SIGINT].map(libc::c_long::from).contains(&signal) {
            system::exit(0);
        }
    }
}

/// Nothing here can panic, but without the standard library there must be an answer.
#[cfg(panic = "abort")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    system::exit(70)
}
