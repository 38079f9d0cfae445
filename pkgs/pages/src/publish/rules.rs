//! `_headers` and `_redirects` of a site.
//!
//! A pack with an invalid line is refused by servers. One bad line should not keep a site from being
//! published, so invalid lines are blanked and noted.

use std::collections::BTreeSet;

use static_server::rules::Rules;

use crate::publish::note::{Note, Notes};

/// The most bytes of each of the two files.
pub const RULES_BYTES_MAX: usize = 1 << 20;

/// The most rounds of blanking. The second round finds lines that only made sense after another one.
const ROUNDS_MAX: usize = 4;

/// Parses both files without their invalid lines. Returns nothing if lines stay invalid.
#[must_use]
pub fn parse(headers: &[u8], redirects: &[u8], notes: &mut Notes) -> Option<Rules> {
    let mut headers = headers.to_vec();
    let mut redirects = redirects.to_vec();
    for _ in 0..ROUNDS_MAX {
        let (rules, complaints) = Rules::parse(&headers, &redirects);
        if complaints.is_empty() {
            return Some(rules);
        }
        let mut lines = [BTreeSet::new(), BTreeSet::new()];
        for bad in complaints {
            let (number, path) = match bad.file {
                "_headers" => (0, b"/_headers".as_slice()),
                _ => (1, b"/_redirects".as_slice()),
            };
            lines[number].insert(bad.line);
            notes.add(path, &Note::Line(bad.line, bad.what));
        }
        headers = blanked(&headers, &lines[0]);
        redirects = blanked(&redirects, &lines[1]);
    }
    None
}

/// Returns a text with some lines emptied; lines count from 1.
fn blanked(text: &[u8], bad: &BTreeSet<usize>) -> Vec<u8> {
    let lines = (1..).zip(text.split(|byte| *byte == b'\n'));
    let lines: Vec<&[u8]> =
        lines.map(|(number, line)| if bad.contains(&number) { b"" } else { line }).collect();
    lines.join(&b'\n')
}

#[cfg(test)]
mod tests {
    use super::parse;
    use crate::publish::note::Notes;
    use proptest::prelude::*;

    #[test]
    fn invalid_lines_are_noted_and_all_others_hold() {
        let mut notes = Notes::default();
        let headers = b"/*\n  X-A: 1\n  no colon\n";
        let redirects = b"/a /b\n/c\n";
        let rules = parse(headers, redirects, &mut notes).unwrap();
        assert_eq!(notes.lines().len(), 2, "{:?}", notes.lines());
        assert!(notes.lines()[0].starts_with("/_headers has an invalid line 3: "));
        assert!(rules.redirect(b"/a").is_some() && rules.redirect(b"/c").is_none());
        assert_eq!(rules.changes(b"/x", None).len(), 1);
    }

    proptest! {
        #[test]
        fn rules_that_are_taken_have_no_complaint(
            headers in "(/[a*:]{0,3}|  [A-Za-z: !-]{0,9}|\\PC{0,9}|\n){0,12}",
            redirects in "([/a*:.]{0,6} |[0-9]{0,3}|\\PC{0,9}|\n){0,12}",
        ) {
            let rules = parse(headers.as_bytes(), redirects.as_bytes(), &mut Notes::default());
            if let Some(rules) = rules {
                let again = static_server::rules::Rules::parse(
                    &rules.headers_text, &rules.redirects_text,
                );
                prop_assert!(again.1.is_empty());
            }
        }
    }
}
