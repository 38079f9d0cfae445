//! Messages that are read as the field reads them, although they could be stricter.

#![expect(clippy::unwrap_used, reason = "all of this is test code")]
#![allow(dead_code, reason = "the tests share their support")]

mod support;

use std::io::Write as _;

use support::{Backend, config, expect, get, route, start};

#[test]
fn blanks_behind_a_chunk_size_pass_as_they_are() {
    let a = Backend::new();
    let gateway = start(&config("", &route("a.test", &[a.address()], "")));
    let mut client = gateway.connect("http");
    client.write_all(get("a.test").as_bytes()).unwrap();
    let mut server = a.accept();
    expect(&mut server, get("a.test").as_bytes());
    let response = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
        5   \r\nhello\r\n5 \t;x = y\r\nagain\r\n0 \r\n\r\n";
    server.write_all(response).unwrap();
    expect(&mut client, response);
    // The response has ended, so the connection serves another request.
    client.write_all(get("a.test").as_bytes()).unwrap();
    expect(&mut server, get("a.test").as_bytes());
}

#[test]
fn a_request_without_a_host_gets_the_default_route_only_in_http_1_0() {
    let a = Backend::new();
    let address = a.address();
    a.echo_name("default");
    let old = "GET /health HTTP/1.0\r\n\r\n";
    let default = format!("[[route]]\ndefault = true\nbackends = [\"{address}\"]\n");
    let gateway = start(&config("", &default));
    assert!(gateway.ask(old).ends_with("default"));
    assert!(gateway.ask("GET / HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 400 "));
    let gateway = start(&config("", &route("a.test", &[address], "")));
    assert!(gateway.ask(old).starts_with("HTTP/1.1 404 "));
    // The default port is the same as no port (RFC 9110 section 4.2.3).
    let line = "GET http://A.test:80/ HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n";
    assert!(gateway.ask(line).ends_with("default"));
    assert!(gateway.ask(&line.replace(":80/", ":81/")).starts_with("HTTP/1.1 400 "));
}
