//! The first process of every sandbox, which holds the pod's namespaces while the pod lives.
//!
//! The program sleeps. If the pod shares one PID namespace, the program is its PID 1 and inherits every
//! orphan, so it reaps. It exits at once on SIGTERM and SIGINT, because otherwise the deletion of each
//! pod would take the whole grace period.
//!
//! Every pod has this process, so the binary has no C library, no allocator and nothing of the standard
//! library (some kilobytes instead of a megabyte).

#![no_main]
// Profiles that unwind need the standard library; the shipped profile aborts.
#![cfg_attr(panic = "abort", no_std)]
// Otherwise the compiler may call strlen(3) and similar functions, which do not exist here.
#![cfg_attr(panic = "abort", no_builtins)]

mod system;

use system::Signals;

const VERSION: &str = concat!("pause ", env!("CARGO_PKG_VERSION"), "\n");

/// `EX_USAGE` of `sysexits.h`.
const USAGE: usize = 64;

/// The signals that stop the program, and the signal of an orphan that has exited.
const SIGNALS: Signals = Signals::of([libc::SIGTERM, libc::SIGINT, libc::SIGCHLD]);

/// The first Rust function, with the stack that the kernel has prepared.
///
/// # Safety
///
/// `stack` points to the number of arguments, that many addresses of strings, and a null pointer.
unsafe extern "C" fn start(stack: *const *const u8) -> ! {
    let first = stack.wrapping_add(2);
    // SAFETY: the number and the program's name are followed by an argument or the null pointer.
    let argument = unsafe { *first };
    if argument.is_null() {
        hold();
    }
    // SAFETY: the pointer is not null, so it points to a string with its NUL.
    if unsafe { equal(argument, b"--version\0") } {
        system::exit(usize::from(!system::write(1, VERSION)));
    }
    system::write(2, "usage: pause [--version]\n");
    system::exit(USAGE)
}

/// True if the string is `expected`, which includes the NUL.
///
/// # Safety
///
/// `string` points to bytes that end with a NUL.
unsafe fn equal(string: *const u8, expected: &[u8]) -> bool {
    expected.iter().enumerate().all(|(index, byte)| {
        let place = string.wrapping_add(index);
        // SAFETY: all bytes before are equal to those of `expected`, so the NUL has not been passed.
        unsafe { *place == *byte }
    })
}

/// Reaps children until a signal stops the program.
fn hold() -> ! {
    // For PID 1 the kernel drops unblocked signals that have their default action.
    system::block(SIGNALS);
    loop {
        // Reap before the first sleep, because a child may have exited before the signal was blocked.
        // One SIGCHLD may stand for many children.
        while system::reap() {}
        let signal = system::wait(SIGNALS);
        if [libc::SIGTERM, libc::SIGINT].map(libc::c_long::from).contains(&signal) {
            system::exit(0);
        }
    }
}

/// Nothing here can panic, but a program without the standard library must have this function.
#[cfg(panic = "abort")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    system::exit(70)
}
