//! The request parser on any bytes: it never panics, and a decision never changes with more bytes.
//!
//! `cargo fuzz run -s none request` in `pkgs/static-server`.

#![no_main]

use libfuzzer_sys::fuzz_target;
use static_server::request::{Target, parse};

const LIMIT: usize = 8192;

fuzz_target!(|input: &[u8]| {
    let whole = parse(input, LIMIT);
    for cut in 0..input.len() {
        let part = parse(&input[..cut], LIMIT);
        assert!(part == Ok(None) || part == whole, "cut at {cut}");
    }
    if let Ok(Some((head, length))) = whole {
        assert!(length <= input.len());
        if let Target::Path { path, .. } = head.target {
            assert!(path.starts_with(b"/") && !path.contains(&0));
            assert!(path.split(|byte| *byte == b'/').all(|part| part != b".." && part != b"."));
        }
    }
});
