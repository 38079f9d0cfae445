//! Preconditions (RFC 9110 section 13), in the order of section 13.2.2.

use crate::date::parse_http_date;
use crate::request::{Fields, Name};

/// The properties of a representation that conditions refer to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validators<'a> {
    /// The strong entity tag with its quotes; empty for none.
    pub etag: &'a [u8],
    /// `Last-Modified`, in seconds since 1970.
    pub modified: Option<u64>,
}

/// The outcome of the conditions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Send the representation.
    Go,
    /// The client has the representation: 304.
    NotModified,
    /// The client wants another version: 412.
    Failed,
}

/// Evaluates the conditions of a GET or HEAD.
#[must_use]
pub fn evaluate(fields: &Fields<'_>, validators: &Validators<'_>) -> Verdict {
    if fields.first(Name::IfMatch).is_some() {
        if !any_tag(fields, Name::IfMatch, |tag| !tag.weak && tag.opaque == validators.etag) {
            return Verdict::Failed;
        }
    } else if let Some(since) = date(fields, Name::IfUnmodifiedSince)
        && validators.modified.is_some_and(|modified| modified > since)
    {
        return Verdict::Failed;
    }
    if fields.first(Name::IfNoneMatch).is_some() {
        if any_tag(fields, Name::IfNoneMatch, |tag| tag.opaque == validators.etag) {
            return Verdict::NotModified;
        }
    } else if let Some(since) = date(fields, Name::IfModifiedSince)
        && validators.modified.is_some_and(|modified| modified <= since)
    {
        return Verdict::NotModified;
    }
    Verdict::Go
}

/// True if `If-Range` allows a range, because it names the same bytes by a strong tag or by the
/// exact date (section 13.1.5).
#[must_use]
pub fn if_range(fields: &Fields<'_>, validators: &Validators<'_>) -> bool {
    let Some(value) = fields.first(Name::IfRange) else { return true };
    if fields.is_repeated(Name::IfRange) {
        return false;
    }
    match tags(value).next() {
        Some(Some(tag)) => !tag.weak && tag.opaque == validators.etag && value == tag.opaque,
        _ => validators.modified.is_some() && parse_http_date(value) == validators.modified,
    }
}

/// Returns the date of a field; an invalid or repeated field is ignored.
fn date(fields: &Fields<'_>, name: Name) -> Option<u64> {
    fields.first(name).filter(|_| !fields.is_repeated(name)).and_then(parse_http_date)
}

/// An entity tag; the opaque part has its quotes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Tag<'a> {
    weak: bool,
    opaque: &'a [u8],
}

/// True if a list of tags is `*` or has a wanted tag.
fn any_tag(fields: &Fields<'_>, name: Name, wanted: impl Fn(Tag<'_>) -> bool) -> bool {
    fields
        .values(name)
        .any(|value| value == b"*" || tags(value).any(|tag| tag.is_some_and(&wanted)))
}

/// Yields the tags of a list; at an error, yields `None` and ends.
fn tags(value: &[u8]) -> impl Iterator<Item = Option<Tag<'_>>> {
    let mut rest = value;
    std::iter::from_fn(move || {
        while let [b' ' | b'\t' | b',', after @ ..] = rest {
            rest = after;
        }
        if rest.is_empty() {
            return None;
        }
        let found = tag(rest);
        rest = found.map_or(&[], |(_, after)| after);
        Some(found.map(|(tag, _)| tag))
    })
}

/// Parses a tag at the beginning, and returns it with the rest.
fn tag(text: &[u8]) -> Option<(Tag<'_>, &[u8])> {
    let (weak, quoted) = match text.strip_prefix(b"W/") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let inside = quoted.strip_prefix(b"\"")?;
    let end = inside.iter().position(|byte| *byte == b'"')? + 2;
    let (opaque, rest) = quoted.split_at(end);
    let is_separated = matches!(rest.first(), None | Some(b',' | b' ' | b'\t'));
    is_separated.then_some((Tag { weak, opaque }, rest))
}

#[cfg(test)]
mod tests {
    use super::{Validators, Verdict, evaluate, if_range};
    use crate::request::{Fields, parse};

    const ETAG: &[u8] = b"\"a,b\"";
    const THEN: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const BEFORE: &str = "Sun, 06 Nov 1994 08:49:36 GMT";
    const MODIFIED: Option<u64> = Some(784_111_777);

    fn with<T>(lines: &str, run: impl FnOnce(&Fields<'_>, Validators<'_>) -> T) -> T {
        let head = format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n");
        let (head, _) = parse(head.as_bytes(), 8192).unwrap().unwrap();
        run(&head.fields, Validators { etag: ETAG, modified: MODIFIED })
    }

    fn check(lines: &[&str], expected: Verdict) {
        let lines = lines.join("\r\n") + "\r\n";
        assert_eq!(
            with(&lines, |fields, validators| evaluate(fields, &validators)),
            expected,
            "{lines}"
        );
    }

    #[test]
    fn a_match_is_strong_and_a_none_match_is_weak() {
        check(&["If-Match: \"a,b\""], Verdict::Go);
        check(&["If-Match: *"], Verdict::Go);
        check(&["If-Match: \"x\", \"a,b\""], Verdict::Go);
        check(&["If-Match: \"x\"", "If-Match: \"a,b\""], Verdict::Go);
        check(&["If-Match: W/\"a,b\""], Verdict::Failed);
        check(&["If-Match: a,b"], Verdict::Failed);
        check(&["If-Match:"], Verdict::Failed);
        check(&["If-None-Match: \"a,b\""], Verdict::NotModified);
        check(&["If-None-Match: W/\"a,b\""], Verdict::NotModified);
        check(&["If-None-Match: \"x\" , ,W/\"a,b\""], Verdict::NotModified);
        check(&["If-None-Match: *"], Verdict::NotModified);
        check(&["If-None-Match: \"a\", \"b\""], Verdict::Go);
        check(&["If-None-Match: w/\"a,b\""], Verdict::Go);
        check(&["If-None-Match: \"a,b\"x"], Verdict::Go);
        check(&["If-None-Match: \"a,b"], Verdict::Go);
    }

    #[test]
    fn dates_count_only_without_a_tag() {
        check(&[&format!("If-Modified-Since: {THEN}")], Verdict::NotModified);
        check(&[&format!("If-Modified-Since: {BEFORE}")], Verdict::Go);
        check(&["If-Modified-Since: yesterday"], Verdict::Go);
        check(&[&format!("If-Modified-Since: {THEN}"), "If-None-Match: \"x\""], Verdict::Go);
        check(&[&format!("If-Unmodified-Since: {THEN}")], Verdict::Go);
        check(&[&format!("If-Unmodified-Since: {BEFORE}")], Verdict::Failed);
        check(&[&format!("If-Unmodified-Since: {BEFORE}"), "If-Match: *"], Verdict::Go);
    }

    #[test]
    fn if_match_is_evaluated_before_if_none_match() {
        check(&["If-Match: \"x\"", "If-None-Match: *"], Verdict::Failed);
        check(&["If-Match: *", "If-None-Match: *"], Verdict::NotModified);
    }

    #[test]
    fn a_download_is_resumed_only_with_the_same_bytes() {
        let check = |value: &str, expected: bool| {
            let lines = format!("If-Range: {value}\r\n");
            let found = with(&lines, |fields, validators| if_range(fields, &validators));
            assert_eq!(found, expected, "{value}");
        };
        assert!(with("", |fields, validators| if_range(fields, &validators)));
        check("\"a,b\"", true);
        check(THEN, true);
        for value in ["W/\"a,b\"", "\"x\"", BEFORE, "*", "", "\"a,b\", \"x\""] {
            check(value, false);
        }
        let none = Validators { etag: b"", modified: None };
        assert!(!with("If-Range: x\r\n", |fields, _| if_range(fields, &none)));
    }
}
