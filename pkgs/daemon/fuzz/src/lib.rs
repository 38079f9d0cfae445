//! Properties that hold for any bytes: one function for each fuzz target.
//!
//! The functions do not use libFuzzer, so that `pkgs/daemon/tests/fuzz.rs` can replay the checked-in
//! inputs of `seeds/` with a plain `cargo test`.

use kiln_daemon::dns::{Answer, Family, Question, name_servers};

/// A target's name and its function.
pub type Target = (&'static str, fn(&[u8]));

/// Every target.
pub const TARGETS: [Target; 1] = [("dns", dns)];

/// Checks an answer of a name server, and the text of a `resolv.conf`: the number of addresses and of
/// name servers is bounded.
pub fn dns(input: &[u8]) {
    for family in [Family::V4, Family::V6] {
        let Some(question) = Question::new(7, "a.test", family) else { return };
        check(&question, input);
        // The same bytes after the beginning of a valid answer.
        let mut packet = question.message();
        packet[2] |= 0x80;
        let (head, tail) = input.split_at(input.len().min(2));
        packet[7] = head.first().copied().unwrap_or(0);
        packet[3] = head.get(1).copied().unwrap_or(0) & 0x0f;
        packet.extend(tail);
        check(&question, &packet);
    }
    assert!(name_servers(&String::from_utf8_lossy(input)).len() <= 3);
}

fn check(question: &Question, packet: &[u8]) {
    let Some(answer) = question.answer(packet) else { return };
    if let Answer::Addresses(addresses, ttl) = &answer {
        assert!(!addresses.is_empty() && *ttl <= u32::MAX / 2);
    }
    assert!(answer.addresses().len() <= 16);
}
