//! What the kernel says about interfaces.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = kiln_dhcp::netlink::parse(bytes);
});
