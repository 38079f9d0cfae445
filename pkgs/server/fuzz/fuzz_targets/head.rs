//! `head` of `src/lib.rs` on any bytes: `cargo fuzz run -s none head` in `pkgs/server`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| kiln_server_fuzz::head(input));
