//! The bytes of HTTP's grammar: tokens, field values, and lists.

/// True for each byte that a token may have.
const IS_TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0_u8;
    while byte < 128 {
        table[byte as usize] = byte.is_ascii_alphanumeric();
        byte += 1;
    }
    let others = b"!#$%&'*+-.^_`|~";
    let mut index = 0;
    while index < others.len() {
        table[others[index] as usize] = true;
        index += 1;
    }
    table
};

/// True for a byte that a `token` may have (RFC 9110 section 5.6.2).
#[inline]
#[must_use]
pub const fn is_token_byte(byte: u8) -> bool {
    IS_TOKEN[byte as usize]
}

/// True for a `token` (RFC 9110 section 5.6.2).
#[inline]
#[must_use]
pub fn is_token(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(|byte| is_token_byte(*byte))
}

/// True for a byte that a field's value may have: a tab, or anything but a control character.
///
/// Bytes above ASCII (`obs-text` of RFC 9110 section 5.5) are accepted.
#[inline]
#[must_use]
pub const fn is_text_byte(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}

/// Returns the offset of the first control character, or the length of a text without one.
///
/// Reads eight bytes at a time.
#[inline]
#[must_use]
pub fn first_control(bytes: &[u8]) -> usize {
    const ONES: u64 = u64::from_le_bytes([1; 8]);
    const HIGHS: u64 = ONES << 7;
    let (words, rest) = bytes.as_chunks::<8>();
    for (index, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        // A borrow can wrongly mark only a byte above a correctly marked byte, and only the lowest
        // mark counts.
        let below_blank = word.wrapping_sub(ONES * 0x20) & !word & HIGHS;
        let delete = word ^ (ONES * 0x7f);
        let is_delete = delete.wrapping_sub(ONES) & !delete & HIGHS;
        let marks = below_blank | is_delete;
        if marks != 0 {
            return index * 8 + (marks.trailing_zeros() / 8) as usize;
        }
    }
    let found = rest.iter().position(|byte| *byte < b' ' || *byte == 0x7f);
    bytes.len() - rest.len() + found.unwrap_or(rest.len())
}

/// Returns the non-empty members of a comma-separated list, without blanks around them
/// (RFC 9110 section 5.6.1).
///
/// Not for lists that may have quoted strings.
#[inline]
pub fn members(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    let members = value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
    members.filter(|member| !member.is_empty())
}

#[cfg(test)]
mod tests {
    use super::{first_control, is_text_byte, is_token, members};
    use proptest::prelude::*;

    #[test]
    fn a_token_is_visible_and_has_no_separator() {
        assert!(is_token(b"X-a1!#$%&'*+.^_`|~"));
        for bad in [&b""[..], b"a b", b"a:", b"\xe4", b"a\0", b"a,b", b"(a)"] {
            assert!(!is_token(bad), "{bad:?}");
        }
    }

    #[test]
    fn a_list_has_no_empty_members() {
        let found: Vec<&[u8]> = members(b" a ,, b\t,").collect();
        assert_eq!(found, [b"a", b"b"]);
        assert_eq!(members(b"").count(), 0);
    }

    proptest! {
        #[test]
        fn eight_bytes_at_a_time_find_the_same_control_character(bytes: Vec<u8>) {
            let simple = bytes.iter().position(|byte| !is_text_byte(*byte) || *byte == b'\t');
            prop_assert_eq!(first_control(&bytes), simple.unwrap_or(bytes.len()));
        }

        #[test]
        fn the_first_control_character_of_mostly_text_is_found(
            text in "[ -~]{0,40}", byte in 0_u8..=255,
        ) {
            let bytes = [text.as_bytes(), &[byte], b"\r\n"].concat();
            let is_control = byte < b' ' || byte == 0x7f;
            prop_assert_eq!(first_control(&bytes), text.len() + usize::from(!is_control));
        }
    }
}
