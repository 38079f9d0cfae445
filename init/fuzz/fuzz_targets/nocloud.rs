//! `nocloud` of `src/lib.rs` on any bytes: `cargo fuzz run -s none nocloud` in `init`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| init_fuzz::nocloud(input));
