//! Text as a JSON string (RFC 8259, section 7).
//!
//! Everything but printable ASCII is escaped, so that a log shown on a terminal cannot move the
//! cursor or change colours, whatever a client sent.

use std::fmt::Write as _;

/// Appends text in quotation marks.
pub fn string(out: &mut String, text: &str) {
    quoted(out, text.encode_utf16());
}

/// Appends bytes in quotation marks. Each byte becomes the character with the same number, because
/// bytes from outside may not be UTF-8.
pub fn bytes(out: &mut String, bytes: &[u8]) {
    quoted(out, bytes.iter().map(|byte| u16::from(*byte)));
}

fn quoted(out: &mut String, code_units: impl Iterator<Item = u16>) {
    out.push('"');
    for code_unit in code_units {
        match u8::try_from(code_unit) {
            Ok(byte @ (b'"' | b'\\')) => {
                out.push('\\');
                out.push(char::from(byte));
            }
            Ok(byte @ b' '..=b'~') => out.push(char::from(byte)),
            // Writing to a String cannot fail.
            _ => drop(write!(out, "\\u{code_unit:04x}")),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{bytes, string};

    fn of_text(text: &str) -> String {
        let mut out = String::new();
        string(&mut out, text);
        out
    }

    fn of_bytes(text: &[u8]) -> String {
        let mut out = String::new();
        bytes(&mut out, text);
        out
    }

    #[test]
    fn quotes_controls_and_other_alphabets_are_escaped() {
        let text = "a\"\\\n\u{1b}[2J\u{7f}\u{e4}\u{1F600}";
        assert_eq!(of_text(text), r#""a\"\\\u000a\u001b[2J\u007f\u00e4\ud83d\ude00""#);
        assert_eq!(of_bytes(b"\x1b[0m\n\xe4"), r#""\u001b[0m\u000a\u00e4""#);
    }

    proptest! {
        #[test]
        fn a_json_parser_reads_the_same_text(text: String) {
            let json = of_text(&text);
            prop_assert!(json.bytes().all(|byte| (b' '..=b'~').contains(&byte)));
            prop_assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text);
        }

        #[test]
        fn a_json_parser_reads_the_same_bytes(text in prop::collection::vec(any::<u8>(), 0..100)) {
            let json = of_bytes(&text);
            prop_assert!(json.bytes().all(|byte| (b' '..=b'~').contains(&byte)));
            let read: String = serde_json::from_str(&json).unwrap();
            let chars: String = text.iter().map(|byte| char::from(*byte)).collect();
            prop_assert_eq!(read, chars);
        }
    }
}
