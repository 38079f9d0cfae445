//! A time server's answer, with the right cookie put into it.
#![no_main]

use std::time::Duration;

use kiln_ntp::packet::{Question, Reception};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let question = Question { cookie: 1, sent: Duration::from_secs(5) };
    let received = Reception { time: Duration::from_secs(6), clock: 0 };
    let mut packet = bytes.to_vec();
    if let Some(cookie) = packet.get_mut(24..32) {
        cookie.copy_from_slice(&question.cookie.to_be_bytes());
    }
    let _ = question.check(&packet, received);
});
