//! Packets from the network: as frame, message and lease, and as a message that is built again.
#![no_main]

use std::net::Ipv4Addr;
use std::time::Duration;

use kiln_dhcp::frame::Datagram;
use kiln_dhcp::lease::Lease;
use kiln_dhcp::message::{Kind, Message, Options, option};
use kiln_dhcp::resolver;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let payload = Datagram::parse(bytes).map_or(bytes, |datagram| datagram.payload);
    check(payload);
    check(&with_options(bytes));
});

/// Returns a valid ACK with these options after its own, because the fuzzer would not find the way to
/// them by chance.
fn with_options(options: &[u8]) -> Vec<u8> {
    let message = Message {
        reply: true,
        kind: Kind::Ack,
        transaction: 1,
        seconds: 0,
        client: Ipv4Addr::UNSPECIFIED,
        yours: Ipv4Addr::new(10, 0, 2, 15),
        hardware: [2, 0, 0, 0, 0, 1],
        options: Options::from([
            (option::SERVER, vec![10, 0, 2, 2]),
            (option::LEASE_TIME, vec![0, 0, 14, 16]),
        ]),
    };
    let mut bytes = message.build();
    // 236 bytes, cookie, and the three options above (3 + 6 + 6).
    bytes.truncate(255);
    bytes.extend(options);
    bytes
}

fn check(payload: &[u8]) {
    let Ok(message) = Message::parse(payload) else { return };
    if let Ok(lease) = Lease::new(&message, Duration::ZERO) {
        assert!(lease.renew_at <= lease.rebind_at && lease.rebind_at <= lease.expires);
        assert!(resolver::text(&lease).is_ascii());
    }
    assert!(Message::parse(&message.build()).is_ok());
}
