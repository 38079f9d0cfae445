//! Runs `dns` of `src/lib.rs` on any bytes: `cargo fuzz run -s none dns` in `pkgs/daemon`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| kiln_daemon_fuzz::dns(input));
