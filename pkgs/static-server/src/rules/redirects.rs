//! `_redirects`: one `source destination [status]` per line. The first rule that matches applies,
//! even if a file has the path.

use std::collections::HashSet;

use crate::rules::line::{Complaint, lines, without_comment};
use crate::rules::pattern::{Pattern, decode, escape, expand};

/// The most rules of each kind, and the most bytes of a line; Cloudflare has the same limits.
const STATIC_RULES_MAX: usize = 2000;
const DYNAMIC_RULES_MAX: usize = 100;
const LINE_BYTES_MAX: usize = 1000;

/// The outcome of a redirect rule for a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Redirect {
    /// Send the client elsewhere.
    To {
        /// 301, 302, 303, 307 or 308.
        status: u16,
        /// `Location`; the request's query is added if it has none of its own.
        location: Vec<u8>,
    },
    /// Answer with the content of another, decoded path.
    Serve(Vec<u8>),
}

/// A pattern and its destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedirectRule {
    from: Pattern,
    /// A path or an address, with placeholders.
    to: Vec<u8>,
    status: u16,
}

impl RedirectRule {
    /// Returns the decoded path of a rule for a single path.
    #[must_use]
    pub fn fixed_source(&self) -> Option<&[u8]> {
        self.from.literal()
    }

    /// Returns the outcome for a decoded path that matches.
    #[must_use]
    pub fn apply(&self, path: &[u8]) -> Option<Redirect> {
        let captures = self.from.matches(path)?;
        let location = expand(&self.to, &captures, escape);
        if self.status != 200 {
            return Some(Redirect::To { status: self.status, location: within(location) });
        }
        let path = location.split(|byte| *byte == b'?' || *byte == b'#').next()?;
        decode(path).map(Redirect::Serve)
    }
}

/// Reduces several leading slashes to one. With two slashes, which a capture could cause, the path
/// would name another host.
fn within(location: Vec<u8>) -> Vec<u8> {
    let slashes = location.iter().take_while(|byte| **byte == b'/').count();
    if slashes > 1 { location[slashes - 1..].to_vec() } else { location }
}

/// Parses the file.
#[must_use]
pub fn parse(text: &[u8]) -> (Vec<RedirectRule>, Vec<Complaint>) {
    let mut rules = Vec::new();
    let mut complaints = Vec::new();
    let mut sources = HashSet::new();
    let (mut fixed, mut dynamic) = (0, 0);
    for (line, text) in lines(text) {
        let text = without_comment(text);
        let result = rule(text).and_then(|rule| {
            let source = text.split(u8::is_ascii_whitespace).next().unwrap_or_default();
            if !sources.insert(source.to_vec()) {
                return Err("there is already a rule for this source".to_owned());
            }
            let (count, most) = if rule.from.is_static() {
                (&mut fixed, STATIC_RULES_MAX)
            } else {
                (&mut dynamic, DYNAMIC_RULES_MAX)
            };
            *count += 1;
            if *count > most {
                Err(format!("more than {most} rules of its kind"))
            } else {
                Ok(rule)
            }
        });
        match result {
            Ok(rule) => rules.push(rule),
            Err(what) => complaints.push(Complaint { file: "_redirects", line, what }),
        }
    }
    (rules, complaints)
}

fn rule(line: &[u8]) -> Result<RedirectRule, String> {
    if line.len() > LINE_BYTES_MAX {
        return Err(format!("more than {LINE_BYTES_MAX} bytes"));
    }
    let words: Vec<&[u8]> =
        line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()).collect();
    let (from, to, status) = match words.as_slice() {
        [from, to] => (*from, *to, 302),
        [from, to, status] => (*from, *to, self::status(status)?),
        _ => return Err("not `source destination [status]`".to_owned()),
    };
    if !from.starts_with(b"/") {
        return Err("the source must be a path".to_owned());
    }
    let source = from.split(|byte| *byte == b'?' || *byte == b'#').next().unwrap_or_default();
    if source.len() != from.len() && from.contains(&b'?') {
        return Err("a source cannot have a query".to_owned());
    }
    check_destination(to, status)?;
    if is_loop(source, to) {
        return Err("the redirect leads to itself".to_owned());
    }
    Ok(RedirectRule { from: Pattern::path(source)?, to: visible(to), status })
}

fn status(text: &[u8]) -> Result<u16, String> {
    match text {
        b"200" => Ok(200),
        b"301" => Ok(301),
        b"302" => Ok(302),
        b"303" => Ok(303),
        b"307" => Ok(307),
        b"308" => Ok(308),
        _ => Err(format!("{} is not a redirect status", String::from_utf8_lossy(text))),
    }
}

fn check_destination(to: &[u8], status: u16) -> Result<(), String> {
    let absolute = to.starts_with(b"https://") || to.starts_with(b"http://");
    let path = to.starts_with(b"/") && !to.starts_with(b"//") && !to.starts_with(b"/\\");
    match (path, absolute) {
        (true, _) => Ok(()),
        (_, true) if status == 200 => {
            Err("200 needs a path, because this server does not query other servers".to_owned())
        }
        (_, true) => Ok(()),
        _ => Err("the destination must be a path or begin with http:// or https://".to_owned()),
    }
}

/// True for a rule from a whole folder to its own index page, or from a path to itself. Paths are
/// compared after decoding, like the paths of requests.
fn is_loop(from: &[u8], to: &[u8]) -> bool {
    let to = to.split(|byte| *byte == b'?' || *byte == b'#').next().unwrap_or_default();
    let decoded = |path: &[u8]| decode(path).unwrap_or_else(|| path.to_vec());
    let (from, to) = (decoded(from), decoded(to));
    let folder = from.strip_suffix(b"*").unwrap_or(&from);
    let page = to.strip_suffix(b".html").unwrap_or(&to);
    let index = page.strip_suffix(b"index").filter(|rest| rest.ends_with(b"/"));
    let is_same = match from.strip_suffix(b"*") {
        Some(before) => to.strip_suffix(b":splat") == Some(before),
        None => from == to,
    };
    is_same || (folder.ends_with(b"/") && index == Some(folder))
}

/// Escapes the bytes that a `Location` must not have; visible bytes stay as they were written.
fn visible(to: &[u8]) -> Vec<u8> {
    let quoted = to.iter().map(|byte| {
        if byte.is_ascii_graphic() { vec![*byte] } else { format!("%{byte:02X}").into_bytes() }
    });
    quoted.flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::{Redirect, parse};
    use proptest::prelude::*;

    const TEXT: &str = "# comment\n/home301 / 301\n/home302 /\n/q /z/?a=1#top 307\n\
        /trailing /trailing/ 301\n/notrailing/ /nottrailing 303\n\
        /blog/* https://blog.example/:splat\n/products/:code/:name /items?code=:code&name=:name 308\n\
        /rewrite/* /real/:splat 200\n/blog/late /never\n/open/* /:splat\n";

    fn check(path: &str, expected: Option<(u16, &str)>) {
        let (rules, complaints) = parse(TEXT.as_bytes());
        assert_eq!(complaints, []);
        let found =
            rules.iter().find_map(|rule| rule.apply(path.as_bytes())).map(|found| match found {
                Redirect::To { status, location } => (status, String::from_utf8(location).unwrap()),
                Redirect::Serve(path) => (200, String::from_utf8(path).unwrap()),
            });
        let found = found.as_ref().map(|(status, to)| (*status, to.as_str()));
        assert_eq!(found, expected, "{path}");
    }

    #[test]
    fn the_first_rule_that_matches_applies() {
        check("/home301", Some((301, "/")));
        check("/home302", Some((302, "/")));
        check("/q", Some((307, "/z/?a=1#top")));
        check("/trailing", Some((301, "/trailing/")));
        check("/trailing/", None);
        check("/blog/late", Some((302, "https://blog.example/late")));
        check("/blog/a/b c", Some((302, "https://blog.example/a/b%20c")));
        check("/products/1/x&y", Some((308, "/items?code=1&name=x&y")));
        check("/rewrite/a b", Some((200, "/real/a b")));
        check("/home301/x", None);
    }

    #[test]
    fn a_capture_cannot_lead_to_another_host_or_break_the_line() {
        check("/open//evil.example/", Some((302, "/evil.example/")));
        check("/blog/a\r\nX: y", Some((302, "https://blog.example/a%0D%0AX:%20y")));
    }

    #[test]
    fn a_bad_line_is_reported_with_its_number_and_the_others_apply() {
        let text = "/a\n/a /b 404\n/a /b 301 x\nhttps://a/ /b\n/a ftp://a\n/a https://a 200\n\
            /* /index.html 200\n/a /a\n/a?x /b\n/ok /b\n/ok /c\n/*/* /d\n/e //evil\n";
        let (rules, complaints) = parse(text.as_bytes());
        let lines: Vec<usize> = complaints.iter().map(|complaint| complaint.line).collect();
        assert_eq!(lines, [1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13]);
        assert_eq!(rules.len(), 1);
    }

    #[test]
    fn a_comment_behind_a_rule_is_skipped() {
        let (rules, complaints) = parse(b"\xef\xbb\xbf/a /b#top 301 # moved\n/c /d # also\n");
        assert_eq!((rules.len(), complaints), (2, Vec::new()));
        let to = Redirect::To { status: 301, location: b"/b#top".to_vec() };
        assert_eq!(rules[0].apply(b"/a"), Some(to));
    }

    #[test]
    fn a_redirect_to_its_own_source_is_refused_however_it_is_written() {
        for line in
            ["/a%62 /ab", "/a /a?x=1", "/a /a#x", "/* /:splat", "/x/* /x/:splat?y", "/:a /:a"]
        {
            assert_eq!(parse(line.as_bytes()).1.len(), 1, "{line}");
        }
        assert_eq!(parse(b"/x/* /:splat\n/a /b?a\n").1, []);
    }

    #[test]
    fn the_limits_are_cloudflares() {
        let many = (0..2101).map(|n| format!("/a{n} /b")).collect::<Vec<_>>().join("\n");
        assert_eq!(parse(many.as_bytes()).0.len(), 2000);
        let many = (0..101).map(|n| format!("/a{n}/* /b")).collect::<Vec<_>>().join("\n");
        assert_eq!(parse(many.as_bytes()).1.len(), 1);
        assert_eq!(parse(format!("/a /{}", "b".repeat(1000)).as_bytes()).1.len(), 1);
    }

    proptest! {
        #[test]
        fn a_location_is_one_visible_word(
            text in "(/[a:*]{0,4} (/|https://)[:a-z]{0,6}( 30[12])?\n){0,5}", path in "/[a/\r\n ]{0,6}"
        ) {
            for rule in parse(text.as_bytes()).0 {
                if let Some(Redirect::To { location, .. }) = rule.apply(path.as_bytes()) {
                    prop_assert!(location.iter().all(u8::is_ascii_graphic));
                    prop_assert!(!location.starts_with(b"//"));
                }
            }
        }
    }
}
