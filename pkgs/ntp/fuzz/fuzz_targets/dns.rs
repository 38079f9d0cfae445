//! A name server's answer behind the question's own bytes.
#![no_main]

use kiln_ntp::dns::{Family, answer, name_servers, question};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let question = question(7, "time.example", Family::V4).expect("a name");
    let mut packet = question.clone();
    packet[2] |= 0x80;
    packet[7] = bytes.len() as u8;
    packet.extend(bytes);
    let _ = answer(&question, &packet);
    let _ = answer(&question, bytes);
    let _ = name_servers(&String::from_utf8_lossy(bytes));
});
