//! A request's PEM, as any node or user can send it to the API server.
#![no_main]

use libfuzzer_sys::fuzz_target;
use node_controller::certificate::csr::{NAMES_MAX, parse};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(csr) = parse(bytes) {
        assert!((1..=NAMES_MAX).contains(&(csr.names.len() + csr.addresses.len())));
    }
});
