//! `ext4` of `src/lib.rs` on any bytes: `cargo fuzz run -s none ext4` in `init`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| init_fuzz::ext4(input));
