//! A time server's reply, into which the right cookie is written.
#![no_main]

use std::time::Duration;

use kiln_ntp::packet::{Reception, Request};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let request = Request { cookie: 1, sent: Duration::from_secs(5) };
    let received = Reception { time: Duration::from_secs(6), clock: 0 };
    let mut packet = bytes.to_vec();
    if let Some(cookie) = packet.get_mut(24..32) {
        cookie.copy_from_slice(&request.cookie.to_be_bytes());
    }
    if let Ok(sample) = request.check(&packet, received) {
        assert!((0..=1_000_000_000).contains(&sample.delay) && (1..16).contains(&sample.stratum));
    }
});
