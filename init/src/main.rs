//! The binary's entry: PID 1 and the applets, told apart by `argv[0]`.
//!
//! C's `main` and not Rust's: the runtime around Rust's aborts when descriptors 0 to 2 are closed
//! and `/dev/null` cannot be opened, and that is how the kernel starts PID 1 on a machine without
//! any console. It would also ignore SIGPIPE, which every child would inherit.

#![no_main]

use std::ffi::{c_char, c_int};

/// Called by the C library; the arguments are read through `std::env` instead.
// SAFETY: `main` is the name the C library calls, and no other symbol of this binary has it.
#[unsafe(no_mangle)]
pub extern "C" fn main(_argc: c_int, _argv: *const *const c_char) -> c_int {
    kiln_init::run()
}
