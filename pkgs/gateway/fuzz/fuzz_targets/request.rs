//! Runs `request` of `src/lib.rs` on any bytes: `cargo fuzz run -s none request` in `pkgs/gateway`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| gateway_fuzz::request(input));
