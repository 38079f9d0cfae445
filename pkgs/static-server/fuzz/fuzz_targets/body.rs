//! `body` of `src/lib.rs` on any bytes: `cargo fuzz run -s none body` in `pkgs/static-server`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| static_server_fuzz::body(input));
