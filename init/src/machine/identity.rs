//! The node's identity: machine-id(5) and name. Both are final before kubelet starts.
//!
//! The machine-id is a keyed hash of the machine's UUID, so that it is stable without a disk and
//! does not reveal the UUID. UUIDs that vendors put into many machines are refused, because two
//! nodes with one name would fight over one Node object.

use std::fs;

use anyhow::{Context, Result};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// The key of the hash: 128 random bits for Kiln's machine-ids. It never changes.
const KEY: [u8; 16] = [
    0x6b, 0x1f, 0x0d, 0x9e, 0x55, 0xc2, 0x4e, 0x0a, 0x93, 0x7c, 0x28, 0xb4, 0xe1, 0xd6, 0x3a, 0x77,
];

/// UUIDs found in many machines. UUIDs of one repeated byte need no entry.
const VENDOR_DEFAULTS: [&str; 8] = [
    "03000200-0400-0500-0006-000700080009",
    "00020003-0004-0005-0006-000700080009",
    "00010203-0405-0607-0809-0a0b0c0d0e0f",
    "01234567-8910-1112-1314-151617181920",
    "11111111-2222-3333-4444-555555555555",
    "12345678-1234-5678-90ab-cddeefaabbcc",
    "4c4c4544-0020-2010-8020-80c04f202020",
    "deadbeef-dead-beef-dead-beefdeadbeef",
];

/// The longest hostname: Linux' `__NEW_UTS_LEN`, and the length of a DNS label.
const NAME_MAX: usize = 63;

/// Returns a machine's UUID in lower case, or `None` if it is malformed or not unique.
#[must_use]
pub fn machine_uuid(text: &str) -> Option<String> {
    let uuid = text.trim().to_ascii_lowercase();
    let digits: Vec<u8> = uuid.bytes().filter(|&byte| byte != b'-').collect();
    let well_formed = uuid.len() == 36
        && [8, 13, 18, 23].iter().all(|&at| uuid.as_bytes()[at] == b'-')
        && digits.len() == 32
        && digits.iter().all(u8::is_ascii_hexdigit);
    let varied = well_formed && digits.chunks(2).any(|byte| byte != &digits[..2]);
    (varied && !VENDOR_DEFAULTS.contains(&uuid.as_str())).then_some(uuid)
}

/// Returns the machine-id of a seed: the 32 lower-case hexadecimal digits of a version 4 UUID.
#[must_use]
pub fn machine_id(seed: &str) -> String {
    // HMAC pads a key with zeros to the hash's block of 64 bytes (RFC 2104, section 2).
    let mut key = [0_u8; 64];
    key[..KEY.len()].copy_from_slice(&KEY);
    let mut hash = Hmac::<Sha256>::new(&key.into());
    hash.update(seed.as_bytes());
    let hash = hash.finalize().into_bytes();
    let mut id = [0_u8; 16];
    id.copy_from_slice(&hash[..16]);
    // RFC 9562, 5.4, as machine-id(5) asks for.
    id[6] = id[6] & 0x0f | 0x40;
    id[8] = id[8] & 0x3f | 0x80;
    id.iter().fold(String::with_capacity(32), |text, byte| text + &format!("{byte:02x}"))
}

/// Returns the name of a node without a configured name.
#[must_use]
pub fn default_hostname(machine_id: &str) -> String {
    format!("kiln-{}", machine_id.get(..8).unwrap_or(machine_id))
}

/// Returns a name that kubelet accepts for the Node object (RFC 1123 labels, lower case), or
/// `None`.
///
/// The whole name has at most 63 bytes, because it becomes the hostname too.
#[must_use]
pub fn hostname(text: &str) -> Option<String> {
    let name = text.trim().to_ascii_lowercase();
    let label = |label: &str| {
        let allowed = label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        !label.is_empty() && allowed && !label.starts_with('-') && !label.ends_with('-')
    };
    (name.len() <= NAME_MAX && name.split('.').all(label)).then_some(name)
}

/// Returns a new random UUID from the kernel.
pub fn random_uuid() -> Result<String> {
    let file = "/proc/sys/kernel/random/uuid";
    fs::read_to_string(file).with_context(|| format!("cannot read {file}"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{NAME_MAX, default_hostname, hostname, machine_id, machine_uuid};

    const GOOD: &str = "4C4C4544-0042-3510-8051-B7C04F4D3232";

    #[test]
    fn uuids_that_do_not_identify_a_machine_are_refused() {
        for uuid in [
            "",
            "00000000-0000-0000-0000-000000000000",
            "FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF",
            "03000200-0400-0500-0006-000700080009",
            "Not Settable",
            "4c4c4544004235108051b7c04f4d3232",
        ] {
            assert_eq!(machine_uuid(uuid), None, "{uuid}");
        }
        assert_eq!(machine_uuid(&format!("{GOOD}\n")), Some(GOOD.to_lowercase()));
    }

    #[test]
    fn a_uuid_always_gives_the_same_machine_id_and_another_uuid_gives_another() {
        let id = machine_id("4c4c4544-0042-3510-8051-b7c04f4d3232");
        // The value is fixed, because a node must never get another machine-id.
        assert_eq!(id, "73092822da2345af9afe75ae461aede6");
        assert_ne!(id, machine_id("4c4c4544-0042-3510-8051-b7c04f4d3233"));
        assert_eq!(hostname(&default_hostname(&id)), Some(format!("kiln-{}", &id[..8])));
    }

    #[test]
    fn names_follow_rfc_1123_and_become_lower_case() {
        assert_eq!(hostname(" Web-1.Rack2\n").as_deref(), Some("web-1.rack2"));
        for name in ["", "-a", "a-", "a..b", "a_b", "a b", &"a".repeat(64), "ä"] {
            assert_eq!(hostname(name), None, "{name}");
        }
    }

    proptest! {
        #[test]
        fn a_valid_name_is_its_own_normal_form(text in ".{0,80}", name in "[a-z0-9]{1,20}") {
            if let Some(valid) = hostname(&text) {
                prop_assert!(valid.len() <= NAME_MAX);
                prop_assert_eq!(hostname(&valid), Some(valid));
            }
            prop_assert_eq!(hostname(&name.to_uppercase()), Some(name));
        }

        #[test]
        fn a_machine_id_is_a_uuid_of_version_4(seed in ".{0,80}") {
            let id = machine_id(&seed);
            prop_assert!(id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()));
            prop_assert!(&id[12..13] == "4" && "89ab".contains(&id[16..17]));
        }

        #[test]
        fn a_uuid_is_returned_in_lower_case_or_refused(text in "[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-F]{12}") {
            let uuid = machine_uuid(&format!(" {text}\n"));
            prop_assert!(uuid.is_none_or(|uuid| uuid == text.to_lowercase()));
        }
    }
}
