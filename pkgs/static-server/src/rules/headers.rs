//! `_headers`: adds, replaces and removes fields of answers.
//!
//! To add a kind of line, parse it in `field`, keep it in [`HeaderRule`], apply it in `apply` as a
//! [`Change`], and let `parse` count it, because a path without lines is reported and dropped.
//!
//! ```text
//! # Every page
//! /*
//!   X-Frame-Options: DENY
//!   ! Cache-Control
//! https://:project.pages.example/*
//!   X-Robots-Tag: noindex
//! ```

use crate::rules::change::{Change, is_repeated};
use crate::rules::line::{Complaint, lines, without_comment};
use crate::rules::pattern::{Captures, Pattern, expand};

/// The most rules, and the most bytes of a line; Cloudflare has the same limits.
const RULES_MAX: usize = 100;
const LINE_BYTES_MAX: usize = 2000;

/// Fields that frame a message, describe its bytes or belong to the connection. Only the server
/// sets them.
const OURS: [&str; 19] = [
    "accept-ranges",
    "age",
    "allow",
    "connection",
    "content-encoding",
    "content-length",
    "content-range",
    "date",
    "etag",
    "host",
    "keep-alive",
    "last-modified",
    "location",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "http2-settings",
];

/// A pattern with the changes for a matching path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeaderRule {
    host: Option<Pattern>,
    path: Pattern,
    remove: Vec<Vec<u8>>,
    set: Vec<(Vec<u8>, Vec<u8>)>,
    /// True if a value has captures of the path.
    captures: bool,
    line: usize,
}

impl HeaderRule {
    /// True if the rule's effect on a path that it matches depends on the host or on the path, so
    /// that files cannot share it.
    #[must_use]
    pub const fn is_late(&self) -> bool {
        self.host.is_some() || self.captures
    }

    /// True if the rule may apply to a decoded path, on some host.
    #[must_use]
    pub fn may_apply(&self, path: &[u8]) -> bool {
        self.path.matches(path).is_some()
    }

    /// Adds the changes of this rule to those of earlier rules. A field that is already set gets
    /// both values, separated by a comma; `Set-Cookie` gets a second line.
    pub fn apply(&self, path: &[u8], host: Option<&[u8]>, changes: &mut Vec<Change>) {
        let mut captures = Captures::new();
        if let Some(pattern) = &self.host {
            let Some(found) = host.and_then(|host| pattern.matches(host)) else { return };
            captures.extend(found);
        }
        let Some(found) = self.path.matches(path) else { return };
        captures.extend(found);
        for name in &self.remove {
            changes.retain(|change| !change.is_about(name));
            changes.push(Change::Remove { name: name.clone() });
        }
        for (name, template) in &self.set {
            let value = expand(template, &captures, safe);
            let earlier = changes.iter_mut().find_map(|change| match change {
                Change::Set { name: known, value }
                    if known.eq_ignore_ascii_case(name) && !is_repeated(name) =>
                {
                    Some(value)
                }
                _ => None,
            });
            match earlier {
                Some(earlier) => earlier.extend([b", ", &value[..]].concat()),
                None => changes.push(Change::Set { name: name.clone(), value }),
            }
        }
    }
}

/// Removes the characters of a captured part that a field's value must not have.
fn safe(part: &[u8]) -> Vec<u8> {
    part.iter().copied().filter(|byte| (b' '..0x7f).contains(byte)).collect()
}

/// Parses the file.
#[must_use]
pub fn parse(text: &[u8]) -> (Vec<HeaderRule>, Vec<Complaint>) {
    let mut rules: Vec<HeaderRule> = Vec::new();
    let mut complaints = Vec::new();
    // False while the lines belong to a rule that was refused.
    let mut is_open = false;
    for (number, line) in lines(text) {
        let result = if is_pattern(line) {
            is_open = false;
            pattern(without_comment(line), number, rules.len()).map(|rule| {
                rules.push(rule);
                is_open = true;
            })
        } else {
            let is_first = rules.is_empty();
            match rules.last_mut() {
                Some(rule) if is_open => field(line, rule),
                // The fields below a refused path are not reported too.
                _ if is_first && complaints.is_empty() => {
                    Err("a field before the first path".to_owned())
                }
                _ => Ok(()),
            }
        };
        complaints.extend(result.err().map(|what| complaint(number, what)));
    }
    let empty = |rule: &HeaderRule| rule.set.is_empty() && rule.remove.is_empty();
    let without = rules.iter().filter(|rule| empty(rule));
    complaints.extend(without.map(|rule| complaint(rule.line, "a path without fields".to_owned())));
    rules.retain(|rule| !empty(rule));
    complaints.sort_by_key(|complaint| complaint.line);
    (rules, complaints)
}

const fn complaint(line: usize, what: String) -> Complaint {
    Complaint { file: "_headers", line, what }
}

fn is_pattern(line: &[u8]) -> bool {
    line.starts_with(b"/")
        || line.windows(3).take_while(|part| part[0] != b' ').any(|part| part == b"://")
}

fn pattern(line: &[u8], number: usize, count: usize) -> Result<HeaderRule, String> {
    if count == RULES_MAX {
        return Err(format!("more than {RULES_MAX} paths"));
    }
    if line.len() > LINE_BYTES_MAX {
        return Err(format!("more than {LINE_BYTES_MAX} bytes"));
    }
    if line.iter().any(u8::is_ascii_whitespace) {
        return Err("a path must not have a blank".to_owned());
    }
    let (host, path) = if line.starts_with(b"/") {
        (None, line)
    } else {
        let rest = line.strip_prefix(b"https://").ok_or("an address must begin with https://")?;
        let end = rest.iter().position(|byte| *byte == b'/').unwrap_or(rest.len());
        let (host, path) = rest.split_at(end);
        if has_port(host) {
            return Err("an address must not have a port".to_owned());
        }
        (Some(Pattern::host(host)?), if path.is_empty() { &b"/"[..] } else { path })
    };
    let path = Pattern::path(path)?;
    let (remove, set) = (Vec::new(), Vec::new());
    Ok(HeaderRule { host, path, remove, set, captures: false, line: number })
}

fn has_port(host: &[u8]) -> bool {
    let colon = host.iter().rposition(|byte| *byte == b':');
    colon.is_some_and(|colon| host[colon + 1..].iter().all(u8::is_ascii_digit))
}

fn field(line: &[u8], rule: &mut HeaderRule) -> Result<(), String> {
    if line.len() > LINE_BYTES_MAX {
        return Err(format!("more than {LINE_BYTES_MAX} bytes"));
    }
    if let Some(name) = line.strip_prefix(b"!") {
        let name = checked_name(name.trim_ascii())?;
        rule.remove.push(name);
        return Ok(());
    }
    let colon = line.iter().position(|byte| *byte == b':').ok_or("expected a path or a field")?;
    let name = checked_name(line[..colon].trim_ascii())?;
    let value = line[colon + 1..].trim_ascii();
    if value.is_empty() {
        return Err("the field has no value".to_owned());
    }
    if !value.iter().all(|byte| *byte == b'\t' || (*byte >= b' ' && *byte != 0x7f)) {
        return Err("the value has a control character".to_owned());
    }
    rule.captures |= rule.path.fills(value);
    rule.set.push((name, value.to_vec()));
    Ok(())
}

fn checked_name(name: &[u8]) -> Result<Vec<u8>, String> {
    let text = String::from_utf8_lossy(name);
    if !kiln_server::http::syntax::is_token(name) {
        return Err(format!("`{text}` is not a field's name"));
    }
    if OURS.iter().any(|ours| name.eq_ignore_ascii_case(ours.as_bytes())) {
        return Err(format!("only the server sets `{text}`"));
    }
    Ok(name.to_vec())
}

#[cfg(test)]
mod tests {
    use super::parse;
    use crate::rules::change::Change;
    use proptest::prelude::*;

    fn check(text: &str, host: Option<&str>, path: &str, expected: &[&str]) {
        let (rules, _) = parse(text.as_bytes());
        let mut changes = Vec::new();
        for rule in &rules {
            rule.apply(path.as_bytes(), host.map(str::as_bytes), &mut changes);
        }
        let found: Vec<String> = changes
            .iter()
            .map(|change| match change {
                Change::Set { name, value } => {
                    format!("{}: {}", String::from_utf8_lossy(name), String::from_utf8_lossy(value))
                }
                Change::Remove { name } => format!("! {}", String::from_utf8_lossy(name)),
            })
            .collect();
        assert_eq!(found, expected, "{path}");
    }

    const TEXT: &str = "# comment\n/secure/page\n  X-Frame-Options: DENY\n  Referrer-Policy: no-referrer\n\
        /static/*\n\tX-Robots-Tag: nosnippet\nhttps://:project.pages.example/*\n  X-Robots-Tag: noindex\n\
        /static/:name.jpg\n  ! x-robots-tag\n  Link: </:name>; rel=canonical\n";

    #[test]
    fn cookies_stay_apart() {
        let text = "/*\n  Set-Cookie: a=1\n  set-cookie: b=2\n  X: 1\n  X: 2\n";
        check(text, None, "/", &["Set-Cookie: a=1", "set-cookie: b=2", "X: 1, 2"]);
        let (rules, _) = parse(text.as_bytes());
        let mut changes = Vec::new();
        rules[0].apply(b"/", None, &mut changes);
        assert_eq!(crate::rules::changed(&[], &changes).len(), 3);
    }

    #[test]
    fn a_byte_order_mark_and_a_comment_behind_a_path_are_skipped() {
        let text = "\u{feff}/* # every page\n  X: #1 # a part of the value\n";
        let (rules, complaints) = parse(text.as_bytes());
        assert_eq!((rules.len(), complaints), (1, Vec::new()));
        check(text, None, "/", &["X: #1 # a part of the value"]);
    }

    #[test]
    fn rules_merge_in_order() {
        check(
            TEXT,
            None,
            "/secure/page",
            &["X-Frame-Options: DENY", "Referrer-Policy: no-referrer"],
        );
        check(TEXT, None, "/static/a.css", &["X-Robots-Tag: nosnippet"]);
        let preview = Some("my.pages.example");
        check(TEXT, preview, "/static/a.css", &["X-Robots-Tag: nosnippet, noindex"]);
        check(TEXT, preview, "/home", &["X-Robots-Tag: noindex"]);
        check(TEXT, Some("pages.example"), "/home", &[]);
        check(TEXT, preview, "/static/a.jpg", &["! x-robots-tag", "Link: </a>; rel=canonical"]);
    }

    #[test]
    fn a_bad_line_is_reported_with_its_number_and_the_others_apply() {
        let text = "X: y\n/a\nContent-Length: 3\nnothing\nX:\nA b: c\nGood: yes\n/b /c\n  Lost: x\n\
            http://a/\n/*/*\nhttps://a:80/\n/empty\n";
        let (rules, complaints) = parse(text.as_bytes());
        let lines: Vec<usize> = complaints.iter().map(|complaint| complaint.line).collect();
        assert_eq!(lines, [1, 3, 4, 5, 6, 8, 10, 11, 12, 13]);
        assert_eq!(rules.len(), 1);
        assert_eq!(complaints[1].to_string(), "_headers:3: only the server sets `Content-Length`");
        check(text, None, "/a", &["Good: yes"]);
    }

    #[test]
    fn the_limits_are_cloudflares() {
        let many = "/a\nX: y\n".repeat(101);
        let (rules, complaints) = parse(many.as_bytes());
        assert_eq!((rules.len(), complaints.len()), (100, 1));
        let long = format!("/a\nX: {}\n", "y".repeat(2000));
        assert_eq!(parse(long.as_bytes()).1.len(), 2);
    }

    proptest! {
        #[test]
        fn a_value_never_breaks_a_line(text in "(/[a:*]{0,4}|[X!]:? [ -~\r\t\u{1}]{0,9}|\n){0,12}") {
            let (rules, _) = parse(text.as_bytes());
            let mut changes = Vec::new();
            for rule in &rules {
                rule.apply(b"/a\r\nb", None, &mut changes);
            }
            for change in &changes {
                if let Change::Set { value, .. } = change {
                    prop_assert!(!value.contains(&b'\r') && !value.contains(&b'\n'));
                }
            }
        }
    }
}
