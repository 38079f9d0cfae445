//! `webhook` of `src/lib.rs` on any bytes: `cargo fuzz run -s none webhook` in `pkgs/pages`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| pages_fuzz::webhook(input));
