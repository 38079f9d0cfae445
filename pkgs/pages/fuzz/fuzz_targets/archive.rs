//! `archive` of `src/lib.rs` on any bytes: `cargo fuzz run -s none archive` in `pkgs/pages`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| pages_fuzz::archive(input));
