//! Head and site → answer. Pure: what is sent depends on nothing else but the date.

use std::rc::Rc;

use crate::request::{Fields, Head, Method, Target};
use crate::resource::Resource;
use crate::site::{Entry, Site};
use crate::status::Status;

/// What the methods are that content has.
const ALLOW: &str = "Allow: GET, HEAD, OPTIONS\r\n";

/// What to do after an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// Wait for the next request.
    KeepAlive,
    /// Close the connection; the answer says so.
    Close,
}

/// An answer as bytes: a head, and a body that is shared with the site.
#[derive(Debug, Default)]
pub struct Answer {
    /// Status line, fields, the empty line; for short texts also the body.
    pub head: Vec<u8>,
    /// The body of a resource.
    pub body: Option<Rc<Resource>>,
}

/// Answers a request. `date` is the `Date` field's value.
#[must_use]
pub fn answer(site: &Site, head: &Head<'_>, date: &str, then: Then) -> Answer {
    let path = match (head.method, &head.target) {
        (Method::Unknown, _) => return plain(Status::NotImplemented, Method::Get, date, then),
        (Method::Options, Target::Server) => return options(date, then),
        (Method::Get | Method::Head | Method::Options, Target::Path { path, .. }) => path,
        _ => return plain(Status::MethodNotAllowed, Method::Get, date, then),
    };
    match (site.find(path), head.method) {
        (None, method) => plain(Status::NotFound, method, date, then),
        (Some(_), Method::Options) => options(date, then),
        (Some(Entry::Folder), method) => folder(&head.target, method, date, then),
        (Some(Entry::Resource(resource)), method) => {
            content(resource, method, head.fields, date, then)
        }
    }
}

/// A status with its own name as the text, which HEAD does not get.
#[must_use]
pub fn plain(status: Status, method: Method, date: &str, then: Then) -> Answer {
    let allow = if status == Status::MethodNotAllowed { ALLOW } else { "" };
    let text = format!("{status}\n");
    let block = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\n{allow}",
        text.len()
    );
    let mut head = finished(block.as_bytes(), date, then);
    if method != Method::Head {
        head.extend_from_slice(text.as_bytes());
    }
    Answer { head, body: None }
}

fn options(date: &str, then: Then) -> Answer {
    let block = format!("HTTP/1.1 204 No Content\r\n{ALLOW}");
    Answer { head: finished(block.as_bytes(), date, then), body: None }
}

/// Sends the client to the folder's own path, which ends with a slash.
///
/// The location is relative to the path, so that it holds behind a proxy that strips a prefix, and
/// begins with `./`, so that no name can be taken for a scheme or another host.
fn folder(target: &Target<'_>, method: Method, date: &str, then: Then) -> Answer {
    let Target::Path { raw, query, .. } = target else {
        return plain(Status::NotFound, method, date, then);
    };
    let name = raw.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    let mut block =
        b"HTTP/1.1 308 Permanent Redirect\r\nContent-Length: 0\r\nLocation: ./".to_vec();
    block.extend_from_slice(name);
    block.push(b'/');
    if let Some(query) = query {
        block.push(b'?');
        block.extend_from_slice(query);
    }
    block.extend_from_slice(b"\r\n");
    Answer { head: finished(&block, date, then), body: None }
}

fn content(
    resource: &Rc<Resource>,
    method: Method,
    fields: Fields<'_>,
    date: &str,
    then: Then,
) -> Answer {
    if let Some(validator) = &resource.validator
        && has_copy(fields, validator.etag.as_bytes())
    {
        return Answer { head: finished(&validator.not_modified, date, then), body: None };
    }
    let body = (method == Method::Get).then(|| Rc::clone(resource));
    Answer { head: finished(&resource.head, date, then), body }
}

/// Whether `If-None-Match` names the tag: weak comparison, RFC 9110 section 13.1.2.
///
/// Ours hold no comma, so a list can be cut at commas: a foreign tag that holds one falls into
/// pieces, none of which begins and ends with a quote as ours does.
fn has_copy(fields: Fields<'_>, etag: &[u8]) -> bool {
    fields
        .list("if-none-match")
        .any(|tag| tag == b"*" || tag.strip_prefix(b"W/").unwrap_or(tag) == etag)
}

/// A header block with what every answer has.
fn finished(block: &[u8], date: &str, then: Then) -> Vec<u8> {
    let connection = match then {
        Then::KeepAlive => "",
        Then::Close => "Connection: close\r\n",
    };
    [block, b"Date: ", date.as_bytes(), b"\r\n", connection.as_bytes(), b"\r\n"].concat()
}

#[cfg(test)]
mod tests {
    use super::{Answer, Then, answer};
    use crate::request::parse;
    use crate::site::Site;

    const DATE: &str = "Sun, 06 Nov 1994 08:49:37 GMT";

    fn site() -> Site {
        Site::from_files([("/index.html", "page"), ("/a b/index.html", "sub"), ("/ready", "mine")])
    }

    fn ask(line: &str, fields: &str) -> String {
        let head = format!("{line} HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
        let (head, _) = parse(head.as_bytes(), 8192).unwrap().unwrap();
        let Answer { head, body } = answer(&site(), &head, DATE, Then::KeepAlive);
        let body = body.map(|resource| resource.body.to_vec()).unwrap_or_default();
        String::from_utf8([head, body].concat()).unwrap()
    }

    fn check(line: &str, expected: &str) {
        assert_eq!(ask(line, "").replace("\r\n", "\n"), expected);
    }

    /// The first 32 digits of the page's SHA-256.
    fn etag() -> String {
        let head = ask("HEAD /", "");
        head.split("ETag: ").nth(1).unwrap().split("\r\n").next().unwrap().to_owned()
    }

    #[test]
    fn content_comes_with_its_type_length_tag_and_date() {
        let head = format!(
            "HTTP/1.1 200 OK\nContent-Type: text/html; charset=utf-8\nContent-Length: 4\nETag: {}\nDate: {DATE}\n\n",
            etag()
        );
        check("GET /", &format!("{head}page"));
        check("GET /index.html?x", &format!("{head}page"));
        check("HEAD /", &head);
    }

    #[test]
    fn what_is_not_there_is_404_and_head_gets_its_header() {
        let head = format!(
            "HTTP/1.1 404 Not Found\nContent-Type: text/plain; charset=utf-8\nContent-Length: 14\nDate: {DATE}\n\n"
        );
        check("GET /none", &format!("{head}404 Not Found\n"));
        check("HEAD //", &head);
        check("OPTIONS /none", &format!("{head}404 Not Found\n"));
    }

    #[test]
    fn a_folder_is_sent_to_its_own_path_with_the_query() {
        let location = "\nContent-Length: 0\nLocation: ./a%20b/?x=1\n";
        check(
            "GET /a%20b?x=1",
            &format!("HTTP/1.1 308 Permanent Redirect{location}Date: {DATE}\n\n"),
        );
        assert!(ask("GET /a%20b/", "").ends_with("sub"));
    }

    #[test]
    fn methods_are_allowed_refused_or_unknown() {
        let allowed =
            format!("HTTP/1.1 204 No Content\nAllow: GET, HEAD, OPTIONS\nDate: {DATE}\n\n");
        check("OPTIONS *", &allowed);
        check("OPTIONS /", &allowed);
        for line in ["POST /", "CONNECT a:1", "TRACE /"] {
            assert!(ask(line, "").starts_with("HTTP/1.1 405 "), "{line}");
            assert!(ask(line, "").contains("\r\nAllow: GET, HEAD, OPTIONS\r\n"), "{line}");
        }
        assert!(ask("BREW /", "").starts_with("HTTP/1.1 501 "));
        assert!(ask("get /", "").starts_with("HTTP/1.1 501 "));
    }

    #[test]
    fn a_copy_that_the_client_has_is_not_sent_again() {
        let etag = etag();
        let not_modified =
            format!("HTTP/1.1 304 Not Modified\r\nETag: {etag}\r\nDate: {DATE}\r\n\r\n");
        for tags in ["*", &etag, &format!("W/{etag}"), &format!("\"x,\" , {etag}")] {
            let fields = format!("If-None-Match: {tags}\r\n");
            assert_eq!(ask("GET /", &fields), not_modified, "{tags}");
            assert_eq!(ask("HEAD /", &fields), not_modified, "{tags}");
        }
        for tags in ["", "\"x\"", etag.trim_matches('"')] {
            assert!(
                ask("GET /", &format!("If-None-Match: {tags}\r\n")).ends_with("page"),
                "{tags}"
            );
        }
    }

    #[test]
    fn health_is_answered_unless_a_file_has_its_name() {
        assert!(ask("GET /health", "If-None-Match: *\r\n").ends_with("\r\n\r\nok\n"));
        assert!(ask("GET /ready", "").ends_with("\r\n\r\nmine"));
    }
}
