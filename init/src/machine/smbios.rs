//! SMBIOS type 11 "OEM Strings" (DMTF DSP0134, 7.12), in which hypervisors pass credentials.

/// The prefix of a credential whose value is plain text.
const TEXT: &str = "io.systemd.credential:";

/// The prefix of a credential whose value is base64.
const BINARY: &str = "io.systemd.credential.binary:";

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

/// Returns the names and values of the credentials in one raw structure.
#[must_use]
pub fn credentials(raw: &[u8]) -> Vec<(String, Vec<u8>)> {
    strings(raw).into_iter().filter_map(credential).collect()
}

fn credential(string: &[u8]) -> Option<(String, Vec<u8>)> {
    let text = std::str::from_utf8(string).ok()?;
    if let Some((name, value)) = text.strip_prefix(TEXT).and_then(|rest| rest.split_once('=')) {
        return Some((name.into(), value.into()));
    }
    let (name, value) = text.strip_prefix(BINARY)?.split_once('=')?;
    Some((name.into(), base64(value)?))
}

/// Decodes base64 with or without padding (RFC 4648, section 4).
fn base64(text: &str) -> Option<Vec<u8>> {
    let digits = text.trim_end_matches('=').bytes().map(digit).collect::<Option<Vec<_>>>()?;
    if digits.len() % 4 == 1 {
        return None;
    }
    let mut bytes = Vec::with_capacity(digits.len() * 3 / 4);
    for group in digits.chunks(4) {
        let bits = group.iter().fold(0_u32, |bits, &digit| bits << 6 | u32::from(digit));
        let bits = bits << (6 * (4 - group.len()));
        bytes.extend_from_slice(&bits.to_be_bytes()[1..group.len()]);
    }
    Some(bytes)
}

fn digit(byte: u8) -> Option<u8> {
    match byte {
        b'A'..=b'Z' => Some(byte - b'A'),
        b'a'..=b'z' => Some(byte - b'a' + 26),
        b'0'..=b'9' => Some(byte - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{BINARY, base64, credentials, strings};

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
            ("kiln.hostname".to_owned(), b"web=1".to_vec()),
            ("b".to_owned(), vec![0, 1, 2, 255]),
        ];
        assert_eq!(credentials(&raw), expected);
    }

    #[test]
    fn base64_matches_the_vectors_of_rfc_4648() {
        for (text, bytes) in [("", ""), ("Zg==", "f"), ("Zm8=", "fo"), ("Zm9vYmFy", "foobar")] {
            assert_eq!(base64(text).unwrap(), bytes.as_bytes());
        }
        assert_eq!(base64("Zm9v!"), None);
    }

    proptest! {
        #[test]
        fn a_binary_value_comes_back(value in prop::collection::vec(any::<u8>(), 0..40)) {
            const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
            let encode = |group: &[u8]| {
                let bits = (0..3).fold(0, |bits, at| {
                    bits << 8 | usize::from(group.get(at).copied().unwrap_or_default())
                });
                let digits = (0..=group.len()).map(|at| DIGITS[bits >> (18 - 6 * at) & 63]);
                digits.map(char::from).collect::<String>()
            };
            let text: String = value.chunks(3).map(encode).collect();
            let found = credentials(&raw(&[&format!("{BINARY}a={text}")]));
            prop_assert_eq!(found, vec![("a".to_owned(), value)]);
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
