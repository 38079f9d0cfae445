//! The entry of the binary: PID 1 and the applets, selected by `argv[0]`.
//!
//! It is C's `main`, because the runtime around Rust's `main` aborts if descriptors 0 to 2 are
//! closed and `/dev/null` cannot be opened. The kernel starts PID 1 in this state on a machine
//! without a console. Rust's runtime would also ignore SIGPIPE, which every child would inherit.

#![no_main]

use std::ffi::{c_char, c_int};

/// Called by the C library. The arguments are read through `std::env`.
// SAFETY: `main` is the name the C library calls, and no other symbol of this binary has it.
#[unsafe(no_mangle)]
pub extern "C" fn main(_argc: c_int, _argv: *const *const c_char) -> c_int {
    kiln_init::run()
}
