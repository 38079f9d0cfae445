//! The requests, by group. `{TAG}` and `{TIME}` stand for the server's own validators of /a.txt.

mod fields;
mod lines;

use fields::{CONDITIONS, RANGES};
use lines::LINES;

/// One request, or several on one connection.
#[derive(Debug, Clone)]
pub struct Case {
    /// The group of requests that it belongs to.
    pub group: &'static str,
    /// Its name, unique within the group.
    pub name: String,
    /// The bytes to send, before the validators are filled in.
    text: Vec<u8>,
}

impl Case {
    /// Returns the bytes to send.
    pub fn request(&self, tag: &str, time: &str) -> Vec<u8> {
        let Ok(text) = std::str::from_utf8(&self.text) else { return self.text.clone() };
        text.replace("{TAG}", tag).replace("{TIME}", time).into_bytes()
    }

    /// Returns the methods of its requests, because an answer to HEAD has no body.
    pub fn methods(&self) -> Vec<&'static str> {
        let text = String::from_utf8_lossy(&self.text).into_owned();
        let heads = text.split("\r\n").filter(|line| line.contains(" HTTP/1"));
        heads.map(|line| if line.starts_with("HEAD ") { "HEAD" } else { "GET" }).collect()
    }
}

/// The request that follows one whose end is ambiguous: a second answer shows where the server saw
/// the end.
const NEXT: &str = "GET /dir/in.txt HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";

/// Returns all requests.
pub fn all() -> Vec<Case> {
    let mut cases = Vec::new();
    methods(&mut cases);
    paths(&mut cases);
    versions(&mut cases);
    hosts(&mut cases);
    lines(&mut cases);
    framing(&mut cases);
    with_fields(&mut cases, "range", &RANGES);
    with_fields(&mut cases, "condition", &CONDITIONS);
    codings(&mut cases);
    connections(&mut cases);
    cases
}

fn add(cases: &mut Vec<Case>, group: &'static str, name: &str, text: impl Into<Vec<u8>>) {
    // A name is a cell of a table, so it is one line.
    let name = name.replace("\r\n", "↵").replace('\n', "␊").replace('\t', "⇥");
    cases.push(Case { group, name, text: text.into() });
}

fn methods(cases: &mut Vec<Case>) {
    for line in [
        "GET /a.txt",
        "HEAD /a.txt",
        "OPTIONS /a.txt",
        "OPTIONS *",
        "OPTIONS /none",
        "POST /a.txt",
        "PUT /a.txt",
        "PUT /new.txt",
        "DELETE /a.txt",
        "PATCH /a.txt",
        "TRACE /a.txt",
        "CONNECT a:80",
        "CONNECT /a.txt",
        "get /a.txt",
        "Get /a.txt",
        "BREW /a.txt",
        "GETX /a.txt",
        "PROPFIND /a.txt",
        "G@T /a.txt",
        "HEAD /none",
        "HEAD /dir",
        "HEAD /dir/",
        "GET *",
        "POST /none",
        "QUERY /a.txt",
    ] {
        let text =
            format!("{line} HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        add(cases, "method", line, text);
    }
}

/// Targets, each with GET and HEAD.
const TARGETS: [&str; 66] = [
    "/",
    "/index.html",
    "/a.txt",
    "/dir",
    "/dir/",
    "/dir/index.html",
    "/dir?x=1",
    "/dir/?x=1",
    "/a.txt?x=1",
    "/none",
    "/dir/none",
    "/none/",
    "/empty",
    "/empty/",
    "//",
    "//a.txt",
    "/dir//in.txt",
    "/./a.txt",
    "/dir/./in.txt",
    "/dir/../a.txt",
    "/../a.txt",
    "/..",
    "/.",
    "/dir/..",
    "/%2e%2e/a.txt",
    "/dir/%2e%2e/a.txt",
    "/dir%2fin.txt",
    "/dir%2Fin.txt",
    "/%2fa.txt",
    "/a%2etxt",
    "/%61.txt",
    "/%2561.txt",
    "/a.txt%00",
    "/%00",
    "/a.txt%0a",
    "/%",
    "/%zz",
    "/%2",
    "/a%",
    "/a.txt#part",
    "/a%20b.txt",
    "/a+b.txt",
    "/%c3%bc.txt",
    "/%C3%BC.txt",
    "/\u{fc}.txt",
    "/%fc.txt",
    "/a.txt/",
    "/a.txt/x",
    "/a.txt;x=1",
    "/A.TXT",
    "/.hidden",
    "/.well-known/x",
    "/dir/.hidden",
    "/style.css",
    "/style.css.gz",
    "a.txt",
    "http://a/a.txt",
    "http://a",
    "http://a?x",
    "https://a/a.txt",
    "HTTP://A/a.txt",
    "ftp://a/a.txt",
    "http://b/a.txt",
    "/\\a.txt",
    "/dir\\in.txt",
    "?x",
];

fn paths(cases: &mut Vec<Case>) {
    for target in TARGETS {
        for method in ["GET", "HEAD"] {
            let text =
                format!("{method} {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
            add(cases, "path", &format!("{method} {target}"), text);
        }
    }
    for length in [1000, 5000, 7000, 40_000] {
        let path = "x".repeat(length);
        let text = format!("GET /{path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        add(cases, "path", &format!("GET a path of {length} bytes"), text);
    }
}

fn versions(cases: &mut Vec<Case>) {
    for version in [
        "HTTP/1.0",
        "HTTP/1.1",
        "HTTP/1.2",
        "HTTP/1.9",
        "HTTP/2.0",
        "HTTP/3.0",
        "HTTP/0.9",
        "HTTP/1.10",
        "HTTP/1",
        "HTTP/1.",
        "HTTP/11",
        "HTTP/01.1",
        "http/1.1",
        "HTTP 1.1",
        "HTTPS/1.1",
        "HTCPCP/1.0",
        "HTTP/1.1x",
    ] {
        for host in ["Host: a\r\n", ""] {
            let text = format!("GET /a.txt {version}\r\n{host}Connection: close\r\n\r\n");
            let name = if host.is_empty() {
                format!("{version} without Host")
            } else {
                version.to_owned()
            };
            add(cases, "version", &name, text);
        }
    }
    add(cases, "version", "none", "GET /a.txt\r\n");
    add(cases, "version", "none, with fields", "GET /a.txt\r\nHost: a\r\n\r\n");
}

fn hosts(cases: &mut Vec<Case>) {
    for host in [
        "a",
        "A",
        "a.",
        "a:80",
        "a:",
        "a:x",
        "a:99999",
        "",
        " ",
        "a b",
        "a/b",
        "a?b",
        "a#b",
        "a@b",
        "a,b",
        "[::1]",
        "[::1]:80",
        "[::1",
        "::1",
        "127.0.0.1",
        "a..b",
        "-a",
        "a_b",
        "a%41",
        "a\u{fc}",
        "*",
        "<a>",
    ] {
        let text = format!("GET /a.txt HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        add(cases, "host", &format!("Host: {host}"), text);
    }
    for (name, fields) in [
        ("two equal", "Host: a\r\nHost: a\r\n"),
        ("two", "Host: a\r\nHost: b\r\n"),
        ("absolute form with another", "Host: b\r\nX: http://a\r\n"),
    ] {
        let text = format!("GET /a.txt HTTP/1.1\r\n{fields}Connection: close\r\n\r\n");
        add(cases, "host", name, text);
    }
}

fn lines(cases: &mut Vec<Case>) {
    let many = "X: y\r\n".repeat(300);
    let long = format!("X: {}\r\n", "y".repeat(9000));
    for (name, text) in LINES {
        add(cases, "line", name, text);
    }
    for (name, fields) in [("300 fields", many), ("a field of 9000 bytes", long)] {
        let text = format!("GET /a.txt HTTP/1.1\r\nHost: a\r\n{fields}Connection: close\r\n\r\n");
        add(cases, "line", name, text);
    }
}

/// Fields that give the length of a body, and the body.
const FRAMING: [(&str, &str); 36] = [
    ("Content-Length: 5", "hello"),
    ("Content-Length: 0", ""),
    ("Content-Length: 00005", "hello"),
    ("Content-Length: 5\r\nContent-Length: 5", "hello"),
    ("Content-Length: 5\r\nContent-Length: 6", "hello"),
    ("Content-Length: 5, 5", "hello"),
    ("Content-Length: 5,6", "hello"),
    ("Content-Length: +5", "hello"),
    ("Content-Length: -5", "hello"),
    ("Content-Length: 0x5", "hello"),
    ("Content-Length: 5 ", "hello"),
    ("Content-Length: 5x", "hello"),
    ("Content-Length: 5.0", "hello"),
    ("Content-Length:", ""),
    ("Content-Length: x", ""),
    ("Content-Length: 99999999999999999999", ""),
    ("Content-Length: 18446744073709551616", ""),
    ("Transfer-Encoding: chunked", "5\r\nhello\r\n0\r\n\r\n"),
    ("Transfer-Encoding: Chunked", "5\r\nhello\r\n0\r\n\r\n"),
    ("Transfer-Encoding: chunked ", "5;x=y\r\nhello\r\n0\r\nX: y\r\n\r\n"),
    ("Transfer-Encoding: chunked\r\nContent-Length: 5", "5\r\nhello\r\n0\r\n\r\n"),
    ("Content-Length: 5\r\nTransfer-Encoding: chunked", "5\r\nhello\r\n0\r\n\r\n"),
    ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", "5\r\nhello\r\n0\r\n\r\n"),
    ("Transfer-Encoding: chunked, chunked", "5\r\nhello\r\n0\r\n\r\n"),
    ("Transfer-Encoding: gzip, chunked", "5\r\nhello\r\n0\r\n\r\n"),
    ("Transfer-Encoding: chunked, gzip", "5\r\nhello\r\n0\r\n\r\n"),
    ("Transfer-Encoding: identity", ""),
    ("Transfer-Encoding: gzip", ""),
    ("Transfer-Encoding: xchunked", ""),
    ("Transfer-Encoding:", ""),
    ("Transfer-Encoding: \tchunked", "5\r\nhello\r\n0\r\n\r\n"),
    ("Transfer-Encoding: chunked", "x\r\nhello\r\n0\r\n\r\n"),
    ("Transfer-Encoding: chunked", "-5\r\nhello\r\n0\r\n\r\n"),
    ("Transfer-Encoding: chunked", "5\nhello\n0\n\n"),
    ("Transfer-Encoding: chunked", "5\r\nhelloXX0\r\n\r\n"),
    ("Transfer-Encoding: chunked", "fffffffffffffffff\r\nhello\r\n0\r\n\r\n"),
];

fn framing(cases: &mut Vec<Case>) {
    for (fields, body) in FRAMING {
        let text = format!("GET /a.txt HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n{body}{NEXT}");
        add(cases, "framing", &format!("{fields} ‖ {body}"), text);
    }
    let old = format!("GET /a.txt HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{NEXT}");
    add(cases, "framing", "chunked in HTTP/1.0", old);
    let post = format!("POST /a.txt HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello{NEXT}");
    add(cases, "framing", "POST", post);
}

/// Adds each with GET, and the first ones with HEAD too.
fn with_fields(cases: &mut Vec<Case>, group: &'static str, all: &[&str]) {
    for (number, fields) in all.iter().enumerate() {
        for method in if number < 20 { &["GET", "HEAD"][..] } else { &["GET"] } {
            let text = format!(
                "{method} /a.txt HTTP/1.1\r\nHost: a\r\n{fields}\r\nConnection: close\r\n\r\n"
            );
            add(cases, group, &format!("{method} {fields}"), text);
        }
    }
    let [first, ..] = all else { return };
    for path in ["/none", "/dir", "/dir/"] {
        let text =
            format!("GET {path} HTTP/1.1\r\nHost: a\r\n{first}\r\nConnection: close\r\n\r\n");
        add(cases, group, &format!("GET {path} {first}"), text);
    }
}

fn codings(cases: &mut Vec<Case>) {
    for accepted in [
        "gzip",
        "GZIP",
        "x-gzip",
        "gzip;q=0",
        "gzip;q=0.5",
        "gzip;q=1.000",
        "gzip;q=x",
        "identity",
        "identity;q=0",
        "*",
        "*;q=0",
        "br",
        "br, gzip",
        "gzip, identity;q=0",
        "deflate",
        "",
        "gzip;q=0, *",
        "identity;q=0, *;q=0",
    ] {
        let text = format!(
            "GET /style.css HTTP/1.1\r\nHost: a\r\nAccept-Encoding: {accepted}\r\nConnection: close\r\n\r\n"
        );
        add(cases, "coding", accepted, text);
    }
}

fn connections(cases: &mut Vec<Case>) {
    let first = |fields: &str| format!("GET /a.txt HTTP/1.1\r\nHost: a\r\n{fields}\r\n{NEXT}");
    for fields in [
        "",
        "Connection: close\r\n",
        "Connection: Close\r\n",
        "Connection: keep-alive\r\n",
        "Connection: keep-alive, close\r\n",
        "Connection: x, close\r\n",
        "Connection: x\r\n",
        "Connection: upgrade\r\nUpgrade: h2c\r\n",
        "Connection: upgrade\r\nUpgrade: websocket\r\n",
        "Expect: 100-continue\r\n",
        "Expect: other\r\n",
        "Expect: 100-continue\r\nContent-Length: 0\r\n",
        "Max-Forwards: 0\r\n",
        "Proxy-Connection: close\r\n",
    ] {
        add(cases, "connection", fields.trim_end(), first(fields));
    }
    for fields in ["", "Connection: keep-alive\r\n", "Connection: close\r\n"] {
        let text = format!("GET /a.txt HTTP/1.0\r\nHost: a\r\n{fields}\r\n{NEXT}");
        add(cases, "connection", &format!("HTTP/1.0 {}", fields.trim_end()), text);
    }
    let head = "HEAD /a.txt HTTP/1.1\r\nHost: a\r\n\r\n";
    add(cases, "connection", "HEAD, HEAD, GET", format!("{head}{head}{NEXT}"));
    let missing = "GET /none HTTP/1.1\r\nHost: a\r\n\r\n";
    add(cases, "connection", "404, 404, GET", format!("{missing}{missing}{NEXT}"));
}
