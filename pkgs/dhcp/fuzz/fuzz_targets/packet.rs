//! What a packet socket gives: frame, message, lease, and the message written again.
#![no_main]

use std::time::Duration;

use kiln_dhcp::frame::Datagram;
use kiln_dhcp::lease::Lease;
use kiln_dhcp::message::Message;
use kiln_dhcp::resolver;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let payload = Datagram::parse(bytes).map_or(bytes, |datagram| datagram.payload);
    let Ok(message) = Message::parse(payload) else { return };
    if let Ok(lease) = Lease::new(&message, Duration::ZERO) {
        assert!(resolver::text(&lease).lines().all(|line| line.is_ascii()));
    }
    assert!(Message::parse(&message.build()).is_ok());
});
