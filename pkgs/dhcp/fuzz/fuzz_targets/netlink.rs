//! Messages of the kernel about interfaces.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    assert!(kiln_dhcp::netlink::parse(bytes).len() <= bytes.len() / 16);
});
