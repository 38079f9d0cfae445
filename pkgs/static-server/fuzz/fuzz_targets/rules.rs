//! `_headers` and `_redirects` of any bytes, for any path: nothing panics, and nothing that comes
//! out can break a line or name another host by accident.
//!
//! `cargo fuzz run -s none rules` in `pkgs/static-server`.

#![no_main]

use libfuzzer_sys::fuzz_target;
use static_server::index::block::Change;
use static_server::rules::{Redirect, Rules};

fuzz_target!(|input: (&[u8], &[u8], &[u8])| {
    let (headers, redirects, path) = input;
    let (rules, _) = Rules::parse(headers, redirects);
    for change in rules.changes(path, Some(b"host.example")) {
        if let Change::Set { value, .. } = change {
            assert!(!value.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)));
        }
    }
    if let Some(Redirect::To { location, .. }) = rules.redirect(path) {
        assert!(location.iter().all(u8::is_ascii_graphic) && !location.starts_with(b"//"));
    }
});
