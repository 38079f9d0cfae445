//! SMBIOS type 11 "OEM Strings" (DMTF DSP0134, 7.12), in which hypervisors pass credentials.

use std::fs;

use super::base64;
use super::credential::{Credentials, Source};

/// The kernel's folder of SMBIOS structures, one folder each (Documentation/ABI,
/// sysfs-firmware-dmi-entries).
const DMI_ENTRIES: &str = "/sys/firmware/dmi/entries";

/// The prefix of a credential whose value is plain text.
const TEXT: &str = "io.systemd.credential:";

/// The prefix of a credential whose value is base64.
const BINARY: &str = "io.systemd.credential.binary:";

/// Adds the credentials from SMBIOS. A machine without SMBIOS has none.
pub fn add(credentials: &mut Credentials) {
    for entry in fs::read_dir(DMI_ENTRIES).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with("11-") {
            let bytes = fs::read(entry.path().join("raw")).unwrap_or_default();
            for (name, value) in self::credentials(&bytes) {
                match value {
                    Some(value) => credentials.add(Source::Smbios, &name, value),
                    None => {
                        credentials.refuse(Source::Smbios, &name, "not base64", "encode it again");
                    }
                }
            }
        }
    }
}

/// Returns the strings of one raw structure, or nothing if the structure is malformed.
///
/// Byte 1 is the length of the formatted part. The strings follow, each ended by a NUL, and one
/// more NUL ends the structure.
#[must_use]
pub fn strings(raw: &[u8]) -> Vec<&[u8]> {
    let Some(text) = raw.get(1).and_then(|&length| raw.get(usize::from(length).max(4)..)) else {
        return Vec::new();
    };
    text.split(|&byte| byte == 0).take_while(|string| !string.is_empty()).collect()
}

/// Returns the names and values of the credentials in one raw structure, `None` for a value that
/// should be base64 and fails to decode.
#[must_use]
pub fn credentials(raw: &[u8]) -> Vec<(String, Option<Vec<u8>>)> {
    strings(raw).into_iter().filter_map(credential).collect()
}

fn credential(string: &[u8]) -> Option<(String, Option<Vec<u8>>)> {
    let text = string.strip_prefix(TEXT.as_bytes());
    let rest = text.or_else(|| string.strip_prefix(BINARY.as_bytes()))?;
    let equals = rest.iter().position(|&byte| byte == b'=')?;
    let (name, value) = (String::from_utf8_lossy(&rest[..equals]), &rest[equals + 1..]);
    let value = if text.is_some() { Some(value.to_vec()) } else { base64::decode(value) };
    Some((name.into_owned(), value))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{BINARY, credentials, strings};
    use crate::machine::base64;

    fn raw(strings: &[&str]) -> Vec<u8> {
        let mut raw = vec![11, 5, 0, 14, u8::try_from(strings.len()).unwrap()];
        for string in strings {
            raw.extend_from_slice(string.as_bytes());
            raw.push(0);
        }
        raw.push(0);
        raw
    }

    #[test]
    fn both_forms_are_read_and_other_strings_are_not() {
        let raw = raw(&[
            "io.systemd.credential:kiln.hostname=web=1",
            "something else",
            "io.systemd.credential.binary:b=AAEC/w==",
            "io.systemd.credential.binary:bad=A",
        ]);
        let expected = vec![
            ("kiln.hostname".to_owned(), Some(b"web=1".to_vec())),
            ("b".to_owned(), Some(vec![0, 1, 2, 255])),
            ("bad".to_owned(), None),
        ];
        assert_eq!(credentials(&raw), expected);
    }

    proptest! {
        #[test]
        fn a_binary_value_comes_back(value in prop::collection::vec(any::<u8>(), 0..40)) {
            let text = base64::encode(&value);
            let found = credentials(&raw(&[&format!("{BINARY}a={text}")]));
            prop_assert_eq!(found, vec![("a".to_owned(), Some(value))]);
        }

        #[test]
        fn the_strings_of_any_bytes_are_short_and_not_empty(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let found = strings(&bytes);
            prop_assert!(found.iter().all(|string| !string.is_empty() && !string.contains(&0)));
            prop_assert!(found.iter().map(|string| string.len() + 1).sum::<usize>() <= bytes.len() + 1);
        }

        #[test]
        fn strings_come_back(list in prop::collection::vec("[a-z=:]{1,20}", 0..5)) {
            let list: Vec<&str> = list.iter().map(String::as_str).collect();
            let raw = raw(&list);
            let back: Vec<_> = strings(&raw).into_iter().map(<[u8]>::to_vec).collect();
            prop_assert_eq!(back, list.iter().map(|s| s.as_bytes().to_vec()).collect::<Vec<_>>());
        }
    }
}
