//! The entry of the binary: PID 1 and the applets, selected by `argv[0]`.
//!
//! It is C's `main`, because the runtime around Rust's `main` aborts if descriptors 0 to 2 are
//! closed and `/dev/null` cannot be opened. The kernel starts PID 1 in this state on a machine
//! without a console. Rust's runtime would also ignore SIGPIPE, which every child would inherit.

#![no_main]

use std::ffi::{CStr, OsStr, c_char, c_int};
use std::os::unix::ffi::OsStrExt;

/// Called by the C library. `std::env` does not know the arguments, because musl does not pass them
/// to constructors as glibc does.
///
/// # Safety
///
/// `arguments` must have `count` pointers to strings that live as long as the process (C11, 5.1.2.2.1).
// SAFETY: `main` is the name the C library calls, and no other symbol of this binary has it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn main(count: c_int, arguments: *const *const c_char) -> c_int {
    let count = usize::try_from(count).unwrap_or(0);
    // SAFETY: the caller's promise.
    let pointers = unsafe { std::slice::from_raw_parts(arguments, count) };
    kiln_init::run(pointers.iter().map(|&arg| {
        // SAFETY: the caller's promise.
        let arg = unsafe { CStr::from_ptr(arg) };
        OsStr::from_bytes(arg.to_bytes()).to_owned()
    }))
}
