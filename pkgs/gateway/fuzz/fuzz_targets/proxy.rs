//! PROXY headers on any bytes: no panic, and more bytes never change a decision.
//!
//! `cargo fuzz run -s none proxy` in `pkgs/gateway`.

#![no_main]

use gateway::proxy::parse;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let whole = parse(input);
    for end in 0..input.len() {
        let part = parse(&input[..end]);
        assert!(part == Ok(None) || part == whole, "cut at {end}");
    }
    if let Ok(Some(header)) = whole {
        assert!(header.length <= input.len());
    }
});
