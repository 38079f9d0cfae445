//! Lines of kubelet's log: klog's structured text (`k8s.io/klog/v2`),
//! `E1130 08:12:53.123456     321 FILE:LINE] "MESSAGE" KEY="VALUE" …`, with values quoted by
//! `strconv.Quote`. A value of several lines is written in another form and has no value here.

/// Returns the message of a line, and the text with its fields.
#[must_use]
pub fn message(line: &[u8]) -> Option<(&str, &str)> {
    let start = line.windows(3).position(|bytes| bytes == b"] \"")? + 3;
    let text = std::str::from_utf8(&line[start..]).ok()?;
    text.split_once('"')
}

/// Returns the value of a key in ` KEY="VALUE" …`. Values without quotes are skipped.
#[must_use]
pub fn value(mut fields: &str, key: &str) -> Option<String> {
    loop {
        let (name, rest) = fields.trim_start_matches(' ').split_once('=')?;
        let rest = match rest.strip_prefix('"') {
            Some(quoted) => {
                let (value, rest) = unquote(quoted)?;
                if name == key {
                    return Some(value);
                }
                rest
            }
            None => rest.split_once(' ').map_or("", |(_, rest)| rest),
        };
        fields = rest;
    }
}

/// Reads up to the closing quote. Returns the value and the text after the quote.
///
/// Escapes other than those of quotes and backslashes are kept, because a console line cannot
/// contain the characters that they stand for.
fn unquote(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    loop {
        match chars.next()? {
            (at, '"') => return Some((value, &text[at + 1..])),
            (_, '\\') => match chars.next()? {
                (_, quoted @ ('"' | '\\')) => value.push(quoted),
                (_, other) => value.extend(['\\', other]),
            },
            (_, plain) => value.push(plain),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{message, value};

    #[test]
    fn a_field_is_found_after_fields_of_any_form() {
        let line = br#"E1130 1 2 a.go:1] "Message" n=3 pod="a/b" err="x \"y\" \\ z" node="n""#;
        let (text, fields) = message(line).unwrap();
        assert_eq!(text, "Message");
        assert_eq!(value(fields, "err").as_deref(), Some(r#"x "y" \ z"#));
        assert_eq!(value(fields, "node").as_deref(), Some("n"));
        assert_eq!(value(fields, "other"), None);
    }

    proptest! {
        #[test]
        fn any_value_is_read_as_it_was_quoted(text in "[a-z \"\\\\:=]{0,40}") {
            let quoted = text.replace('\\', "\\\\").replace('"', "\\\"");
            prop_assert_eq!(value(&format!(" a=1 err=\"{quoted}\" b=\"c\""), "err"), Some(text));
        }

        #[test]
        fn any_line_is_read(line: Vec<u8>, text in "[\\] \"=a\\\\]{0,60}") {
            let _ = message(&line);
            let _ = message(text.as_bytes()).map(|(_, fields)| value(fields, "a"));
        }
    }
}
