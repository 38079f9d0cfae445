//! `node` of `src/lib.rs` on any bytes: `cargo fuzz run -s none node` in `init`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| init_fuzz::node(input));
