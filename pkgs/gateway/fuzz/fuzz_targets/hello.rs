//! The `ClientHello` parser on any bytes: it never panics, and no split changes what it says.
//!
//! `cargo fuzz run -s none hello` in `pkgs/gateway`.

#![no_main]

use gateway::tls::hello::Scan;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let whole = Scan::default().look(input);
    let mut scan = Scan::default();
    for end in 0..=input.len() {
        let part = scan.look(&input[..end]);
        if part != Ok(None) {
            assert_eq!(part, whole, "cut at {end}");
            return;
        }
    }
    assert_eq!(whole, Ok(None));
});
