//! Configurations of any text: an error or a configuration that routes, never a panic.
//!
//! `cargo fuzz run -s none config` in `pkgs/gateway`.

#![no_main]

use gateway::config::{Ports, parse};
use gateway::route::Table;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &str| {
    if let Ok(config) = parse(input, Ports::default()) {
        let table = Table::new(&config);
        for listener in 0..config.listeners.len() {
            let _ = table.find(listener, Some("a.test"), b"\x02h2");
        }
    }
});
