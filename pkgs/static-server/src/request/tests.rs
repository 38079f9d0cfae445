//! Tables of accepted and refused requests, and properties for all other bytes.

use super::{Head, Method, Name, Target, normalized_host, parse};
use crate::status::Status;
use kiln_server::http::body::Body;
use proptest::prelude::*;

const HEAD_BYTES_MAX: usize = 8192;

fn code(input: &[u8]) -> u16 {
    match parse(input, HEAD_BYTES_MAX) {
        Ok(Some(_)) => 200,
        Ok(None) => 100,
        Err(status) => status.code(),
    }
}

/// Checks the status of a head with this request line and these fields, and a valid Host.
fn check(line: &str, fields: &str, expected: u16) {
    let head = format!("{line}\r\nHost: a\r\n{fields}\r\n");
    assert_eq!(code(head.as_bytes()), expected, "{head:?}");
}

fn good(input: &str) -> Head<'_> {
    let (head, length) = parse(input.as_bytes(), HEAD_BYTES_MAX).unwrap().unwrap();
    assert_eq!(length, input.len());
    head
}

#[test]
fn a_request_line_has_three_parts_and_two_blanks() {
    check("GET / HTTP/1.1", "", 200);
    check("get / HTTP/1.1", "", 200); // an unknown method, answered later
    check("POST / HTTP/1.1", "", 200);
    for line in [
        "GET /",
        "GET  / HTTP/1.1",
        "GET / HTTP/1.1 ",
        " GET / HTTP/1.1",
        "GET\t/ HTTP/1.1",
        "GET / http/1.1",
        "GET / HTTP/1.10",
        "GET / HTTP/1",
        "G@T / HTTP/1.1",
        "GET a HTTP/1.1",
        "GET * HTTP/1.1",
        "GET /\u{e4} HTTP/1.1",
        "GET /#top HTTP/1.1",
        "GET / HTTP/1.1\r",
    ] {
        check(line, "", 400);
    }
}

#[test]
fn only_the_major_version_matters() {
    check("GET / HTTP/1.2", "", 200);
    check("GET / HTTP/2.0", "", 505);
    check("GET / HTTP/0.9", "", 505);
    assert_eq!(code(b"GET / HTTP/1.0\r\n\r\n"), 200);
    assert_eq!(code(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), 505);
}

#[test]
fn there_is_one_valid_host() {
    let with = |fields: &str| code(format!("GET / HTTP/1.1\r\n{fields}\r\n").as_bytes());
    for host in ["a", "a:80", "a:", "", "10.0.0.1:8080", "[::1]:80", "[::ffff:1.2.3.4]"] {
        assert_eq!(with(&format!("Host: {host}\r\n")), 200, "{host:?}");
    }
    for host in ["a b", "a/b", "a@b", "a:x", "a:1:2", "[", "[]", "[::1]x", "[::1", "a,b\"", "a#"] {
        assert_eq!(with(&format!("Host: {host}\r\n")), 400, "{host:?}");
    }
    assert_eq!(with(""), 400);
    assert_eq!(with("Host: a\r\nhost: a\r\n"), 400);
    assert_eq!(code(b"GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n"), 400);
}

#[test]
fn an_ambiguous_field_is_refused() {
    check("GET / HTTP/1.1", "X: \tv \u{e4} \r\nY:\r\n", 200);
    for fields in [
        "X : v\r\n",
        " X: v\r\n",
        "X: a\r\n b\r\n",
        "X: a\r\n\tb\r\n",
        "X\r\n",
        ": v\r\n",
        "X: a\rb\r\n",
        "X: a\nY: b\r\n",
        "X: a\0\r\n",
        "X: \x7f\r\n",
        "X\u{e4}: v\r\n",
    ] {
        check("GET / HTTP/1.1", fields, 400);
    }
    assert_eq!(code(b"GET / HTTP/1.1\nHost: a\n\n"), 400);
}

#[test]
fn a_body_has_one_length() {
    let get = "GET / HTTP/1.1";
    let body = |fields: &str| good(&format!("{get}\r\nHost: a\r\n{fields}\r\n")).body;
    assert_eq!(body(""), Body::NONE);
    assert_eq!(body("Content-Length: 0\r\n"), Body::NONE);
    assert_eq!(body("Content-Length: 5\r\n"), Body::Length(5));
    assert_eq!(body("Transfer-Encoding: Chunked\r\n"), Body::chunked());
    for fields in [
        "Content-Length: 1\r\nContent-Length: 1\r\n",
        "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Content-Length: +1\r\n",
        "Content-Length: -0\r\n",
        "Content-Length: 1, 1\r\n",
        "Content-Length: 0x1\r\n",
        "Content-Length:\r\n",
        "Content-Length: 99999999999999999999\r\n",
    ] {
        check(get, fields, 400);
    }
    check(get, "Transfer-Encoding: gzip, chunked\r\n", 501);
    check("GET / HTTP/1.0", "Transfer-Encoding: chunked\r\n", 400);
}

#[test]
fn a_connection_stays_open_only_for_http_1_1_that_does_not_close() {
    let persistent = |head: &str| good(head).persistent;
    assert!(persistent("GET / HTTP/1.1\r\nHost: a\r\n\r\n"));
    assert!(!persistent("GET / HTTP/1.1\r\nHost: a\r\nConnection: x ,CLOSE\r\n\r\n"));
    assert!(!persistent("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"));
}

fn check_path(target: &str, expected: Option<&str>) {
    let head = format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n");
    let path =
        parse(head.as_bytes(), HEAD_BYTES_MAX).ok().map(|parsed| match parsed.unwrap().0.target {
            Target::Path { path, .. } => String::from_utf8_lossy(&path).into_owned(),
            other => format!("{other:?}"),
        });
    assert_eq!(path.as_deref(), expected, "{target}");
}

#[test]
fn a_path_is_decoded_once_and_never_leaves_the_site() {
    check_path("/a/b%20c.html?x=../..", Some("/a/b c.html"));
    check_path("/%2541", Some("/%41"));
    check_path("//a", Some("//a"));
    check_path("/...", Some("/..."));
    check_path("http://host:80/a?b", Some("/a"));
    check_path("HTTPS://host", Some("/"));
    check_path("http://host?q", Some("/"));
    for target in [
        "/..",
        "/a/../b",
        "/./a",
        "/%2e%2e/a",
        "/.%2E",
        "/a%00",
        "/a%2fb",
        "/%",
        "/%a",
        "/%zz",
        "/%+1",
        "..",
        "ftp://host/",
        "http:///a",
        "http://a b/",
        "host:80",
    ] {
        check_path(target, None);
    }
}

#[test]
fn the_server_as_a_whole_is_for_options_only() {
    let options = "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n";
    assert_eq!((good(options).method, good(options).target), (Method::Options, Target::Server));
    let absolute = "OPTIONS http://a HTTP/1.1\r\nHost: a\r\n\r\n";
    assert_eq!(good(absolute).target, Target::Server);
    let connect = "CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n";
    assert_eq!(
        (good(connect).method, good(connect).target),
        (Method::NotAllowed, Target::Authority)
    );
}

#[test]
fn the_line_and_the_whole_head_have_limits() {
    let long = "x".repeat(HEAD_BYTES_MAX);
    assert_eq!(code(format!("GET /{long}").as_bytes()), 414);
    assert_eq!(code(format!("GET / HTTP/1.1\r\nX: {long}").as_bytes()), 431);
    let many = |count| format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(count));
    assert_eq!(code(many(99).as_bytes()), 200);
    assert_eq!(code(many(100).as_bytes()), 431);
    let head = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    assert!(parse(head, head.len()).unwrap().is_some());
    assert_eq!(parse(head, head.len() - 1), Err(Status::FieldsTooLarge));
}

#[test]
fn one_empty_line_before_a_request_is_skipped_and_no_more() {
    assert_eq!(code(b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"), 200);
    assert_eq!(code(b"\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"), 400);
    assert_eq!(code(b"\r"), 100);
}

#[test]
fn the_length_ends_at_the_next_request() {
    let two = b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET /b HTTP/1.1\r\n";
    assert_eq!(parse(two, HEAD_BYTES_MAX).unwrap().unwrap().1, 27);
}

#[test]
fn lists_of_several_fields_are_one_list() {
    let head = good(
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: a, ,b\r\nY: z\r\nconnection:c\r\nRange: 1\r\n\r\n",
    );
    assert_eq!(head.fields.list(Name::Connection).collect::<Vec<_>>(), [b"a", b"b", b"c"]);
    assert_eq!(head.fields.list(Name::Range).collect::<Vec<_>>(), [b"1"]);
    assert_eq!(head.fields.values(Name::Expect).count(), 0);
}

#[test]
fn a_host_is_compared_without_port_case_and_final_dot() {
    for host in ["a.example", "A.Example:80", "a.example.", "a.example.:8080", "a.EXAMPLE:"] {
        assert_eq!(normalized_host(host.as_bytes()), b"a.example", "{host}");
    }
    assert_eq!(normalized_host(b"[::1]:80"), b"[::1]");
    let absolute = good("GET http://Other.example:1/x HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(absolute.host(), b"Other.example:1");
    assert_eq!(good("GET / HTTP/1.1\r\nHost: a\r\n\r\n").host(), b"a");
}

/// Returns pieces of heads, so that random heads get past the first line.
fn piece() -> impl Strategy<Value = Vec<u8>> {
    let known: Vec<&[u8]> = vec![
        b"GET ",
        b"HEAD ",
        b"/",
        b"*",
        b"/a%20b",
        b"%2e",
        b"..",
        b"http://a/",
        b" HTTP/1.1\r\n",
        b" HTTP/1.0\r\n",
        b"Host: a\r\n",
        b"Content-Length: 0\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Connection: close\r\n",
        b"\r\n",
        b"\n",
        b"\r",
        b" ",
        b":",
        b"x",
    ];
    let known = proptest::sample::select(known).prop_map(<[u8]>::to_vec);
    prop_oneof![8 => known, 1 => proptest::collection::vec(any::<u8>(), 0..20)]
}

fn input() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(piece(), 0..14).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn a_head_lies_within_the_input_and_its_limit(
        input in prop_oneof![input(), proptest::collection::vec(any::<u8>(), 0..80)],
        limit in 0_usize..200,
    ) {
        match parse(&input, limit) {
            Ok(Some((_, length))) => {
                prop_assert!(length <= limit && input[..length].ends_with(b"\r\n\r\n"));
            }
            Ok(None) => prop_assert!(input.len() < limit),
            Err(status) => prop_assert!((400..600).contains(&status.code())),
        }
    }

    #[test]
    fn more_bytes_never_change_a_decision(input in input(), limit in 16_usize..200) {
        let whole = parse(&input, limit);
        for cut in 0..input.len() {
            let part = parse(&input[..cut], limit);
            prop_assert!(part == Ok(None) || part == whole, "cut at {}: {:?} {:?}", cut, part, whole);
        }
    }

    #[test]
    fn an_accepted_path_stays_inside(input in input()) {
        if let Ok(Some((Head { target: Target::Path { path, .. }, .. }, length))) = parse(&input, HEAD_BYTES_MAX) {
            prop_assert!(path.starts_with(b"/") && !path.contains(&0) && length <= input.len());
            prop_assert!(path.split(|byte| *byte == b'/').all(|part| part != b".." && part != b"."));
        }
    }
}
