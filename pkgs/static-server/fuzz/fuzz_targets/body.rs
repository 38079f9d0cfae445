//! Chunked bodies of any bytes: the cut into packets changes nothing.
//!
//! `cargo fuzz run -s none body` in `pkgs/static-server`.

#![no_main]

use libfuzzer_sys::fuzz_target;
use static_server::request::body::{Framing, Skipper};

fuzz_target!(|input: (&[u8], u8)| {
    let (bytes, cut) = input;
    let mut whole = Skipper::new(Framing::Chunked);
    let expected = whole.skip(bytes);
    let (first, second) = bytes.split_at(usize::from(cut).min(bytes.len()));
    let mut pieces = Skipper::new(Framing::Chunked);
    let found = pieces.skip(first).and_then(|one| Ok(one + pieces.skip(second)?));
    assert_eq!(found.is_err(), expected.is_err());
    assert!(expected.is_err() || (found == expected && pieces == whole));
});
