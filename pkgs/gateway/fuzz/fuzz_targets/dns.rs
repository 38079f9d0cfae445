//! Answers of name servers on any bytes, and the texts of resolv.conf and hosts.
//!
//! `cargo fuzz run -s none dns` in `pkgs/gateway`.

#![no_main]

use gateway::dns::conf::Conf;
use gateway::dns::message::{Family, answer};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    for family in [Family::V4, Family::V6] {
        let _ = answer(7, "a.test", family, input);
    }
    if let Ok(text) = std::str::from_utf8(input) {
        let conf = Conf::parse(text, text);
        assert!(!conf.servers.is_empty() && !conf.candidates("a").is_empty());
    }
});
