//! Text from a disk as a file name, in the two ways of udev (`src/shared/device-nodes.c` and
//! `src/udev/udev-util.c` of systemd).

/// The characters that are kept, next to ASCII letters, digits and all of UTF-8 beyond ASCII.
const KEPT: &[u8] = b"#+-.:=@_";

fn is_kept(character: char) -> bool {
    character.is_ascii_alphanumeric()
        || !character.is_ascii()
        || u8::try_from(character).is_ok_and(|byte| KEPT.contains(&byte))
}

/// Encodes a label or UUID so that it can be decoded again: other bytes become `\xNN`.
pub(super) fn encode(bytes: &[u8]) -> String {
    let mut name = String::new();
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            if is_kept(character) {
                name.push(character);
            } else {
                // Every character beyond ASCII is kept, so this one is one byte.
                name.push_str(&hex(character as u8));
            }
        }
        chunk.invalid().iter().for_each(|&byte| name.push_str(&hex(byte)));
    }
    name
}

fn hex(byte: u8) -> String {
    format!("\\x{byte:02x}")
}

/// Replaces runs of white space inside and every other character by `_`, as in the parts of a
/// serial number.
pub(super) fn replace(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    words
        .join("_")
        .chars()
        .map(|character| if is_kept(character) { character } else { '_' })
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{encode, replace};

    #[test]
    fn labels_are_encoded_as_udev_does() {
        for (label, expected) in [
            (&b"data"[..], "data"),
            (b"my data/1", "my\\x20data\\x2f1"),
            (b"..", ".."),
            (b"a\\x20", "a\\x5cx20"),
            ("größer".as_bytes(), "größer"),
            (b"\xff\n", "\\xff\\x0a"),
        ] {
            assert_eq!(encode(label), expected);
        }
    }

    #[test]
    fn serial_numbers_have_no_white_space() {
        assert_eq!(replace("  QEMU    HARDDISK  "), "QEMU_HARDDISK");
        assert_eq!(replace("a/b\\c*"), "a_b_c_");
    }

    proptest! {
        #[test]
        fn no_name_leads_to_another_folder(bytes: Vec<u8>, text: String) {
            prop_assert!(!encode(&bytes).contains(['/', '\0', ' ']));
            prop_assert!(!replace(&text).contains(['/', '\0', ' ']));
        }
    }
}
