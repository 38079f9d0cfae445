//! The whole answer to each kind of request.

use super::{Answer, Block, Payload, Serving, Source, answer};
use crate::content::{Content, Hosts, Mounts};
use crate::date::http_date;
use crate::index::policy::Policy;
use crate::index::testing::{from_files, with_variant};
use crate::index::{Coding, Kind};
use crate::request::parse;
use std::sync::Arc;

/// Returns the bytes of an answer, without `Date` and `Connection`.
fn text(answer: &Answer) -> String {
    let index = match &answer.source {
        Source::Index(index) => Some(index),
        _ => None,
    };
    let mut all = match &answer.head {
        Block::Ready(span) => index.unwrap().bytes(*span).to_vec(),
        Block::Made(made) => made.clone(),
    };
    let mut own = [0; super::own::OWN_BYTES_MAX];
    let len = answer.own.write(&mut own);
    all.extend(&own[..len]);
    all.extend(b"\r\n");
    let piece = |piece: &super::Piece| {
        let index = index.unwrap();
        let bytes = index.memory(index.variants[piece.variant as usize].body).unwrap();
        let start = usize::try_from(piece.start).unwrap();
        bytes[start..start + usize::try_from(piece.len).unwrap()].to_vec()
    };
    match &answer.body {
        Payload::Nothing => {}
        Payload::Text(text) => all.extend(text.as_bytes()),
        Payload::Piece(one) => all.extend(piece(one)),
        Payload::Parts(parts) => {
            for (before, one) in parts {
                all.extend(before);
                all.extend(piece(one));
            }
        }
    }
    String::from_utf8(all).unwrap()
}

const FILES: [(&str, &str); 5] = [
    ("/index.html", "page"),
    ("/a b/index.html", "sub"),
    ("/ready", "mine"),
    ("/404.html", "oops"),
    ("/app.3f9a1c2b.js", "0123456789"),
];

/// The time of all answers, in seconds since 1970.
const NOW: u64 = 1_000_000_000;

struct Asker(Content);

impl Asker {
    fn new(files: &[(&str, &str)], policy: &Policy) -> Self {
        Self(Content::One(Arc::new(from_files(files, policy))))
    }

    fn ask(&self, line: &str, fields: &str) -> String {
        let head = format!("{line} HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
        let (head, _) = parse(head.as_bytes(), 8192).unwrap().unwrap();
        text(&answer(&Serving { content: &self.0, ready: true, now: NOW }, &head))
    }

    #[track_caller]
    fn check(&self, line: &str, fields: &str, start: &str, end: &str) {
        let found = self.ask(line, fields);
        assert!(found.starts_with(&format!("HTTP/1.1 {start}")), "{line}: {found}");
        assert!(found.ends_with(end), "{line}: {found}");
    }

    fn field(&self, line: &str, name: &str) -> Option<String> {
        let found = self.ask(line, "");
        let line = found.lines().find(|line| line.starts_with(&format!("{name}: ")))?;
        Some(line.split_once(": ")?.1.to_owned())
    }
}

fn site() -> Asker {
    Asker::new(&FILES, &Policy::default())
}

#[test]
fn content_comes_with_its_fields() {
    let site = site();
    let etag = site.field("GET /", "ETag").unwrap();
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\nAccept-Ranges: bytes\r\n\
         Cache-Control: no-cache\r\nContent-Length: 4\r\nETag: {etag}\r\n\r\n"
    );
    assert_eq!(site.ask("GET /", ""), format!("{head}page"));
    assert_eq!(site.ask("GET /index.html?x", ""), format!("{head}page"));
    assert_eq!(site.ask("HEAD /", ""), head);
    assert_eq!(site.ask("HEAD /", "Range: bytes=0-0\r\n"), head);
}

#[test]
fn a_missing_page_is_a_404_and_never_cached() {
    let site = site();
    site.check("GET /none", "", "404 Not Found\r\n", "\r\nContent-Length: 4\r\n\r\noops");
    site.check("HEAD /none", "", "404 Not Found\r\n", "\r\nContent-Length: 4\r\n\r\n");
    site.check("OPTIONS /none", "", "404 ", "");
    for path in ["/none", "/gone.3f9a1c2c.js", "//", "/a%20b/x/"] {
        let line = format!("GET {path}");
        assert_eq!(site.field(&line, "Cache-Control").as_deref(), Some("no-store"), "{path}");
        assert_eq!(site.field(&line, "ETag"), None);
    }
    site.check("GET /none", "If-None-Match: *\r\nRange: bytes=0-0\r\n", "404 ", "oops");
    let bare = Asker::new(&[("/x", "y")], &Policy::default());
    bare.check("GET /none", "", "404 Not Found\r\n", "\r\n\r\n404 Not Found\n");
}

#[test]
fn a_fingerprinted_name_is_cached_forever() {
    let found = site().field("GET /app.3f9a1c2b.js", "Cache-Control").unwrap();
    assert_eq!(found, "public, max-age=31536000, immutable");
}

#[test]
fn a_folder_redirects_to_its_path_with_the_query() {
    let site = site();
    assert_eq!(
        site.ask("GET /a%20b?x=1", ""),
        "HTTP/1.1 308 Permanent Redirect\r\nContent-Length: 0\r\nLocation: ./a%20b/?x=1\r\n\r\n"
    );
    site.check("GET /a%20b/", "", "200 OK", "sub");
}

#[test]
fn methods_are_allowed_refused_or_unknown() {
    let site = site();
    let allowed = "HTTP/1.1 204 No Content\r\nAllow: GET, HEAD, OPTIONS\r\n\r\n";
    assert_eq!(site.ask("OPTIONS *", ""), allowed);
    assert_eq!(site.ask("OPTIONS /", ""), allowed);
    for line in ["POST /", "CONNECT a:1", "TRACE /"] {
        site.check(line, "", "405 ", "");
        assert_eq!(site.field(line, "Allow").as_deref(), Some("GET, HEAD, OPTIONS"), "{line}");
    }
    site.check("BREW /", "", "501 ", "");
    site.check("get /", "", "501 ", "");
}

#[test]
fn conditions_apply_to_the_chosen_variant() {
    let site = site();
    let etag = site.field("GET /", "ETag").unwrap();
    let not_modified =
        format!("HTTP/1.1 304 Not Modified\r\nCache-Control: no-cache\r\nETag: {etag}\r\n\r\n");
    for line in ["GET /", "HEAD /"] {
        let fields = format!("If-None-Match: \"x,\" , W/{etag}\r\nRange: bytes=0-0\r\n");
        assert_eq!(site.ask(line, &fields), not_modified);
    }
    site.check("GET /", "If-None-Match: \"x\"\r\n", "200 ", "page");
    site.check("GET /", "If-Match: \"x\"\r\n", "412 ", "412 Precondition Failed\n");
    site.check("HEAD /", "If-Match: \"x\"\r\n", "412 ", "\r\n\r\n");
}

#[test]
fn ranges_are_sent_alone_or_in_parts() {
    let site = site();
    let path = "GET /app.3f9a1c2b.js";
    let ask = |range: &str| site.ask(path, &format!("Range: bytes={range}\r\n"));
    let one = ask("2-4");
    assert!(one.starts_with(
        "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 2-4/10\r\nContent-Type: text/javascript"
    ));
    assert!(one.ends_with("\r\n\r\n234") && one.contains("\r\nContent-Length: 3\r\nETag: "));
    site.check(path, "Range: bytes=10-\r\n", "416 ", "416 Range Not Satisfiable\n");
    assert!(ask("10-").contains("\r\nContent-Range: bytes */10\r\n"));
    for whole in ["0-5,5-6", "x"] {
        assert!(ask(whole).ends_with("\r\n\r\n0123456789"), "{whole}");
    }
    let many = ask("0-1,-1");
    let (head, body) = many.split_once("\r\n\r\n").unwrap();
    let boundary = head.split("boundary=").nth(1).unwrap().lines().next().unwrap();
    assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())));
    let part = |place: &str, text: &str| {
        format!(
            "\r\n--{boundary}\r\nContent-Type: text/javascript; charset=utf-8\r\n\
             Content-Range: bytes {place}/10\r\n\r\n{text}"
        )
    };
    assert_eq!(body, format!("{}{}\r\n--{boundary}--\r\n", part("0-1", "01"), part("9-9", "9")));
}

#[test]
fn a_range_with_if_range_needs_the_same_bytes() {
    let site = site();
    let path = "GET /app.3f9a1c2b.js";
    let etag = site.field(path, "ETag").unwrap();
    let fields = |tag: &str| format!("Range: bytes=0-0\r\nIf-Range: {tag}\r\n");
    site.check(path, &fields(&etag), "206 ", "\r\n\r\n0");
    site.check(path, &fields(&format!("W/{etag}")), "200 ", "9");
    site.check(path, &fields("\"x\""), "200 ", "9");
}

#[test]
fn health_is_answered_unless_a_file_has_its_name() {
    let site = site();
    site.check("GET /health", "If-None-Match: *\r\n", "200 OK", "\r\n\r\nok\n");
    site.check("HEAD /health", "", "200 OK", "Cache-Control: no-store\r\n\r\n");
    site.check("GET /ready", "", "200 OK", "\r\n\r\nmine");
    let bare = Content::One(Arc::new(from_files(&[], &Policy::default())));
    let (head, _) = parse(b"GET /ready HTTP/1.1\r\nHost: a\r\n\r\n", 99).unwrap().unwrap();
    let found = text(&answer(&Serving { content: &bare, ready: false, now: NOW }, &head));
    assert!(found.starts_with("HTTP/1.1 503 "), "{found}");
}

#[test]
fn a_single_page_answers_for_paths_but_not_for_files() {
    let site = Asker::new(&FILES, &Policy { single_page: true, ..Policy::default() });
    site.check("GET /users/7", "", "200 OK", "page");
    site.check("GET /users/7.png", "", "404 ", "oops");
    let etag = site.field("GET /users/7", "ETag").unwrap();
    site.check("GET /users/7", &format!("If-None-Match: {etag}\r\n"), "304 ", "");
}

#[test]
fn clean_urls_redirect_to_one_path_for_each_page() {
    let policy = Policy { clean_urls: true, ..Policy::default() };
    let site =
        Asker::new(&[("/index.html", "i"), ("/a.html", "a"), ("/b/index.html", "b")], &policy);
    site.check("GET /a", "", "200 ", "a");
    for (path, location) in [
        ("/a.html?q", "./a?q"),
        ("/a/", "../a"),
        ("/index.html", "./"),
        ("/b/index.html", "./"),
        ("/b", "./b/"),
    ] {
        let found = site.field(&format!("GET {path}"), "Location");
        assert_eq!(found.as_deref(), Some(location), "{path}");
    }
}

/// Follows redirects with the path escaped in several ways; returns the last status.
fn follow(site: &Asker, path: &str) -> String {
    let mut path = path.to_owned();
    for _ in 0..3 {
        let found = site.ask(&format!("GET {path}"), "");
        let location = found.lines().find_map(|line| line.strip_prefix("Location: "));
        let Some(location) = location else { return found[9..12].to_owned() };
        let folder = &path[..=path.rfind('/').unwrap()];
        path = match location.strip_prefix("../") {
            Some(rest) => {
                let above = folder.trim_end_matches('/');
                format!("{}{rest}", &above[..=above.rfind('/').unwrap()])
            }
            None => format!("{folder}{}", location.strip_prefix("./").unwrap()),
        };
    }
    format!("a loop at {path}")
}

#[test]
fn every_escaped_form_of_a_path_leads_to_its_page() {
    let files = [("/index.html", "page"), ("/a b.html", "sub"), ("/dir/index.html", "d")];
    let site = Asker::new(&files, &Policy { clean_urls: true, ..Policy::default() });
    for path in ["/index.html", "/a b.html", "/a b/", "/a b", "/dir/index.html", "/dir", "/dir/"] {
        for escaped in 0..path.len() {
            let bytes = path.bytes().enumerate().map(|(at, byte)| match byte {
                b'/' => "/".to_owned(),
                _ if at == escaped || byte == b' ' => format!("%{byte:02x}"),
                _ => char::from(byte).to_string(),
            });
            let path: String = bytes.collect();
            assert_eq!(follow(&site, &path), "200", "{path}");
        }
    }
    site.check("GET /a%20b%2ehtml?x", "", "308 ", "Location: ./a%20b?x\r\n\r\n");
    site.check("GET /%69ndex.html", "", "308 ", "Location: ./\r\n\r\n");
}

#[test]
fn the_variant_is_chosen_and_named() {
    let index = with_variant("/a.css", "long text", Coding::Gzip, "short");
    let site = Asker(Content::One(Arc::new(index)));
    site.check("GET /a.css", "", "200 ", "long text");
    site.check("GET /a.css", "Accept-Encoding: gzip\r\n", "200 ", "short");
    let found = site.ask("GET /a.css", "Accept-Encoding: gzip\r\nRange: bytes=0-0\r\n");
    assert!(found.contains("\r\nContent-Encoding: gzip\r\n") && found.ends_with("\r\n\r\ns"));
    assert!(found.contains("\r\nVary: Accept-Encoding\r\n"));
    let plain = site.field("GET /a.css", "ETag").unwrap();
    let fields = format!("Accept-Encoding: gzip\r\nIf-None-Match: {plain}\r\n");
    site.check("GET /a.css", &fields, "200 ", "short");
}

#[test]
fn rules_change_fields_and_redirect() {
    let files = [
        (
            "/_headers",
            "/*\n  X-All: yes\n  Cache-Control: max-age=9\nhttps://h.example/*\n  X-Host: h\n",
        ),
        (
            "/_redirects",
            "/old /new?b 301\n/go/* https://x.example/:splat#top 302\n/real /index.html 200\n",
        ),
        ("/index.html", "page"),
        ("/404.html", "oops"),
    ];
    let site = Asker::new(&files, &Policy::default());
    site.check("GET /_headers", "", "404 ", "oops");
    site.check("GET /real", "", "200 OK", "page");
    assert_eq!(site.field("GET /old?a", "Location").unwrap(), "/new?b");
    assert_eq!(site.field("GET /go/a%20b?a", "Location").unwrap(), "https://x.example/a%20b?a#top");
    assert_eq!(site.field("GET /", "X-All").unwrap(), "yes");
    assert_eq!(site.field("GET /", "Cache-Control").unwrap(), "max-age=9");
    assert_eq!(site.field("GET /none", "X-All").unwrap(), "yes");
    assert_eq!(site.field("GET /none", "Cache-Control").unwrap(), "no-store");
    assert_eq!(site.field("GET /", "X-Host"), None);
    assert_eq!(site.field("GET http://H.example:80/", "X-Host").unwrap(), "h");
}

#[test]
fn the_fields_of_a_rule_are_on_every_answer_for_its_path() {
    let rules = "/*\n  Access-Control-Allow-Origin: *\n  Cache-Control: max-age=9\n\
        Content-Type: text/x\n/old\n  X-Old: yes\n/real\n  X-Real: yes\n/s/*\n  X-At: :splat\n";
    let files = [
        ("/_headers", rules),
        ("/_redirects", "/old /dir/ 301\n/real /dir/ 200\n"),
        ("/dir/index.html", "page"),
        ("/s/file", "x"),
    ];
    let site = Asker::new(&files, &Policy::default());
    let etag = site.field("GET /dir/", "ETag").unwrap();
    for (line, fields, status) in [
        ("GET /dir/", "", 200),
        ("GET /dir/", "Range: bytes=0-0\r\n", 206),
        ("GET /old", "", 301),
        ("GET /dir/", &format!("If-None-Match: {etag}\r\n"), 304),
        ("GET /dir", "", 308),
        ("GET /none", "", 404),
        ("OPTIONS /none", "", 404),
        ("POST /dir/", "", 405),
        ("GET /dir/", "If-Match: \"x\"\r\n", 412),
        ("GET /dir/", "Range: bytes=9-\r\n", 416),
        ("OPTIONS /dir/", "", 204),
        ("GET /real", "", 200),
        ("GET /s/file", "", 200),
        ("GET /s/none", "", 404),
    ] {
        let found = site.ask(line, fields);
        assert!(found.starts_with(&format!("HTTP/1.1 {status} ")), "{line}: {found}");
        assert_eq!(found.matches("Access-Control-Allow-Origin: *\r\n").count(), 1, "{found}");
        assert_eq!(found.contains("max-age=9\r\n"), status < 400, "{found}");
        assert_eq!(found.contains("text/x"), matches!(status, 200 | 206), "{found}");
        assert_eq!(found.contains("X-Old: yes"), line == "GET /old", "{found}");
        assert_eq!(found.contains("X-Real: yes"), line == "GET /real", "{found}");
        assert_eq!(found.contains("X-At: "), line.contains("/s/"), "{found}");
    }
    site.check("GET /health", "", "200 OK", "\r\nCache-Control: no-store\r\n\r\nok\n");
}

#[test]
fn last_modified_is_never_later_than_date() {
    let mut index = from_files(&[("/past", "a"), ("/future", "b")], &Policy::default());
    let then = |path: &str| if path == "/past" { NOW - 10 } else { NOW + 10 };
    for path in ["/past", "/future"] {
        let Some(Kind::Resource(number)) = index.find(path.as_bytes()) else { panic!("{path}") };
        index.resources[number as usize].modified = Some(then(path));
    }
    let site = Asker(Content::One(Arc::new(index)));
    let field = |path: &str| site.field(&format!("GET {path}"), "Last-Modified").unwrap();
    assert_eq!(field("/past"), http_date(NOW - 10));
    assert_eq!(field("/future"), http_date(NOW));
    let since = |time| format!("If-Modified-Since: {}\r\n", http_date(time));
    // A condition may be in the future (RFC 9110 section 13.1.3).
    site.check("GET /past", &since(NOW + 9_999_999), "304 ", "");
    site.check("GET /future", &since(NOW + 9_999_999), "304 ", "");
    // The file may have changed since then, as far as the client can know.
    site.check("GET /future", &since(NOW - 1), "200 ", "b");
}

#[test]
fn the_first_matching_redirect_applies_but_not_to_probes() {
    let rules = "/a/b /first\n/:x/b /second\n/c/* /third\n/c/d /never\n/dir /real 200\n/* /rest\n";
    let files = [("/_redirects", rules), ("/real/index.html", "real")];
    let site = Asker::new(&files, &Policy::default());
    for (path, location) in
        [("/a/b", "/first"), ("/z/b", "/second"), ("/c/d", "/third"), ("/real/", "/rest")]
    {
        assert_eq!(site.field(&format!("GET {path}"), "Location").unwrap(), location, "{path}");
    }
    site.check("GET /dir", "", "200 ", "real");
    site.check("GET /health", "", "200 ", "ok\n");
}

#[test]
fn each_host_has_its_site_and_others_are_misdirected() {
    let index = |text| Arc::new(from_files(&[("/index.html", text)], &Policy::default()));
    let mut hosts = Hosts::default();
    hosts.named.insert(b"one.example".to_vec(), index("one"));
    let get = |hosts: Hosts, host: &str| {
        let site = Asker(Content::Hosts(hosts));
        site.ask(&format!("GET http://{host}/"), "")
    };
    let named = || Hosts { named: hosts.named.clone(), default: None };
    assert!(get(named(), "ONE.example.:80").ends_with("one"));
    assert!(get(named(), "two.example").starts_with("HTTP/1.1 421 "));
    assert!(get(named(), "..").starts_with("HTTP/1.1 421 "));
    let all = Hosts { default: Some(index("other")), ..named() };
    assert!(get(all, "two.example").ends_with("other"));
    let site = Asker(Content::Hosts(named()));
    site.check("GET /health", "", "200 OK", "ok\n");
}

#[test]
fn a_site_below_a_prefix_is_a_site_of_its_own() {
    let files = [
        ("/index.html", "page"),
        ("/sub/index.html", "sub"),
        ("/404.html", "oops"),
        ("/_redirects", "/old /new 301\n/away https://other.example/x\n/* /sub/index.html 200\n"),
        ("/_headers", "/sub/*\n  X-Rule: yes\n"),
    ];
    let mut mounts = Mounts::default();
    mounts.insert("a", "/team docs", Arc::new(from_files(&files, &Policy::default())));
    mounts.insert("a", "", Arc::new(from_files(&FILES[..1], &Policy::default())));
    let site = Asker(Content::Mounts(mounts));
    let location = |line: &str| site.field(line, "Location");
    assert_eq!(location("GET /team%20docs"), Some("./team%20docs/".to_owned()));
    assert_eq!(location("GET /team%20docs?q"), Some("./team%20docs/?q".to_owned()));
    assert_eq!(location("GET /team%20docs/old"), Some("/team%20docs/new".to_owned()));
    assert_eq!(location("GET /team%20docs/away"), Some("https://other.example/x".to_owned()));
    assert_eq!(site.field("GET /team%20docs/sub/", "X-Rule"), Some("yes".to_owned()));
    site.check("GET /team%20docs/x", "", "200", "sub");
    // Probes do not take paths away from the sites of several owners.
    site.check("GET /team%20docs/ready", "", "200", "sub");
    site.check("GET /ready", "", "404", "\r\n404 Not Found\n");
    site.check("GET /", "", "200", "page");
}

#[test]
fn a_host_without_a_site_at_the_path_is_a_404_and_another_host_a_421() {
    let mut mounts = Mounts::default();
    mounts.insert("a", "/x", Arc::new(from_files(&FILES, &Policy::default())));
    let site = Asker(Content::Mounts(mounts));
    site.check("GET /y", "", "404", "404 Not Found\n");
    site.check("GET http://b/x/", "", "421", "421 Misdirected Request\n");
}

#[test]
fn an_unlisted_site_says_so_in_every_answer_whatever_its_files_say() {
    let files = [
        ("/index.html", "page"),
        ("/dir/index.html", "sub"),
        ("/robots.txt", "User-agent: *\nAllow: /\n"),
        ("/_headers", "/*\n  ! X-Robots-Tag\n  X-Robots-Tag: all\n  X-Rule: yes\n"),
        ("/_redirects", "/robots.txt /index.html 200\n/old /new 301\n"),
    ];
    let index = Arc::new(from_files(&files, &Policy::default()));
    let (mut unlisted, mut listed) = (Mounts::default(), Mounts::default());
    unlisted.insert_unlisted("a", "", Arc::clone(&index));
    listed.insert("a", "", index);
    let (unlisted, listed) = (Asker(Content::Mounts(unlisted)), Asker(Content::Mounts(listed)));
    for (line, fields, status) in [
        ("GET /", "", "200"),
        ("HEAD /", "", "200"),
        ("GET /", "If-None-Match: *\r\n", "304"),
        ("GET /", "Range: bytes=0-1\r\n", "206"),
        ("GET /", "Range: bytes=0-0, 2-3\r\n", "206"),
        ("GET /", "Range: bytes=9-\r\n", "416"),
        ("GET /dir", "", "308"),
        ("GET /old", "", "301"),
        ("GET /none", "", "404"),
        ("GET /robots.txt", "", "200"),
        ("OPTIONS /", "", "204"),
        ("POST /", "", "405"),
    ] {
        let found = unlisted.ask(line, fields);
        assert!(found.starts_with(&format!("HTTP/1.1 {status} ")), "{line}: {found}");
        let lower = found.to_ascii_lowercase();
        assert_eq!(lower.matches("x-robots-tag: ").count(), 1, "{line}: {found}");
        assert!(found.contains("\r\nX-Robots-Tag: noindex, nofollow\r\n"), "{line}: {found}");
        assert!(!listed.ask(line, fields).contains("noindex"), "{line}");
    }
    unlisted.check("GET /robots.txt", "", "200 OK", "\r\n\r\nUser-agent: *\nDisallow: /\n");
    assert_eq!(unlisted.field("GET /", "X-Rule").as_deref(), Some("yes"));
}
