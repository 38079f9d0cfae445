//! `request` of `src/lib.rs` on any bytes: `cargo fuzz run -s none request` in `pkgs/static-server`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| static_server_fuzz::request(input));
