//! Runs `proxy` of `src/lib.rs` on any bytes: `cargo fuzz run -s none proxy` in `pkgs/gateway`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| gateway_fuzz::proxy_header(input));
