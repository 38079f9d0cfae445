//! HTTP through the program: the backends that a request reaches, and the gateway's own answers.

#![expect(clippy::unwrap_used, reason = "all of this is test code")]
#![allow(dead_code, reason = "the tests share their support")]

mod support;

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};

use support::{Backend, Gateway, closed, config, ended, expect, get, read_to, rest, route, start};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-L: \u{e4}\r\n\r\nok";

/// A gateway, and its backends for a.test and b.test.
fn two(keys: &str) -> (Gateway, Backend, Backend) {
    let (a, b) = (Backend::new(), Backend::new());
    let routes =
        [route("a.test", &[a.address()], keys), route("b.test", &[b.address()], "")].concat();
    (start(&config("", &routes)), a, b)
}

/// Sends a request for a.test and responds to it; client and backend stay connected.
fn begun(gateway: &Gateway, a: &Backend, request: &str, answer: &str) -> (TcpStream, TcpStream) {
    let mut client = gateway.connect("http");
    client.write_all(request.as_bytes()).unwrap();
    let mut server = a.accept();
    expect(&mut server, request.as_bytes());
    server.write_all(answer.as_bytes()).unwrap();
    expect(&mut client, answer.as_bytes());
    (client, server)
}

#[test]
fn requests_and_responses_pass_unchanged_and_the_connection_is_kept() {
    let (gateway, a, b) = two("");
    let (mut client, mut server) = begun(&gateway, &a, &get("a.test"), OK);
    let post = "POST / HTTP/1.1\r\nHost: A.test.:80\r\nTransfer-Encoding: chunked\r\nX-B: \u{e4}\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    for _ in 0..3 {
        client.write_all(post.as_bytes()).unwrap();
        expect(&mut server, post.as_bytes());
        let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;x\r\nok\r\n0\r\n\r\n";
        server.write_all(chunked.as_bytes()).unwrap();
        expect(&mut client, chunked.as_bytes());
    }
    drop(server);
    assert_eq!(rest(client), b"");
    assert!(b.is_alone());
}

#[test]
fn a_later_request_never_reaches_the_backend_of_another_host() {
    for (host, status) in [("b.test", "421 "), ("c.test", "404 "), ("a.test, b.test", "400 ")] {
        let (gateway, a, b) = two("");
        let (mut client, server) = begun(&gateway, &a, &get("a.test"), OK);
        client.write_all(get(host).as_bytes()).unwrap();
        let answer = String::from_utf8(rest(client)).unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{host}: {answer}");
        assert_eq!(rest(server), b"", "{host}: the backend gets no byte of it");
        assert!(b.is_alone());
    }
}

#[test]
fn a_later_request_for_another_name_of_the_same_backend_may_use_the_connection() {
    let a = Backend::new();
    let routes =
        [route("a.test", &[a.address()], ""), route("c.test", &[a.address()], "forwarded = true")]
            .concat();
    let gateway = start(&config("", &routes));
    let (mut client, mut server) = begun(&gateway, &a, &get("a.test"), OK);
    client.write_all(get("c.test").as_bytes()).unwrap();
    assert!(read_to(&mut server, "\r\n\r\n").contains("X-Forwarded-For: 127.0.0.1\r\n"));
}

#[test]
fn a_response_arrives_even_if_the_backend_closes_before_the_body_is_sent() {
    let (gateway, a, _b) = two("");
    let mut client = gateway.connect("http");
    client
        .write_all(b"POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 100000\r\n\r\nbegin")
        .unwrap();
    let mut server = a.accept();
    read_to(&mut server, "begin");
    let answer = "HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n";
    server.write_all(answer.as_bytes()).unwrap();
    drop(server);
    assert_eq!(String::from_utf8(rest(client)).unwrap(), answer);
}

#[test]
fn pipelined_requests_are_checked_one_by_one_and_answered_in_order() {
    let (gateway, a, b) = two("");
    let mut client = gateway.connect("http");
    client.write_all([get("a.test"), get("a.test"), get("b.test")].concat().as_bytes()).unwrap();
    let mut server = a.accept();
    for _ in 0..2 {
        expect(&mut server, get("a.test").as_bytes());
        server.write_all(OK.as_bytes()).unwrap();
    }
    let answers = String::from_utf8(rest(client)).unwrap();
    assert!(answers.starts_with(&[OK, OK, "HTTP/1.1 421 "].concat()), "{answers}");
    assert_eq!(rest(server), b"");
    assert!(b.is_alone());
}

#[test]
fn a_refused_upgrade_opens_nothing() {
    let (gateway, a, b) = two("");
    let upgrade =
        "GET /chat HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    let mut client = gateway.connect("http");
    client.write_all([upgrade, &get("b.test")].concat().as_bytes()).unwrap();
    let mut server = a.accept();
    expect(&mut server, upgrade.as_bytes());
    server.write_all(OK.as_bytes()).unwrap();
    let answers = String::from_utf8(rest(client)).unwrap();
    assert!(answers.starts_with(&[OK, "HTTP/1.1 421 "].concat()), "{answers}");
    assert_eq!(rest(server), b"");
    assert!(b.is_alone());
}

#[test]
fn after_a_101_bytes_are_opaque_in_both_directions() {
    let (gateway, a, _b) = two("");
    let upgrade =
        "GET /chat HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    let (mut client, mut server) = begun(
        &gateway,
        &a,
        upgrade,
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n\u{1}first",
    );
    for text in [&b"\x81\x05hello"[..], get("b.test").as_bytes(), b"\r\n\n\0"] {
        client.write_all(text).unwrap();
        expect(&mut server, text);
        server.write_all(text).unwrap();
        expect(&mut client, text);
    }
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(rest(server.try_clone().unwrap()), b"");
    server.write_all(b"last").unwrap();
    drop(server);
    assert_eq!(rest(client), b"last");
}

#[test]
fn a_request_that_two_servers_could_understand_differently_reaches_no_backend() {
    let (gateway, a, b) = two("");
    let inner = get("b.test");
    for request in [
        format!(
            "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{inner}"
        ),
        format!(
            "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 0\r\nContent-Length: 50\r\n\r\n{inner}"
        ),
        format!("POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: xchunked\r\n\r\n{inner}"),
        format!(
            "POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n{inner}"
        ),
        format!(
            "POST / HTTP/1.1\r\nHost: a.test\r\nX: y\r\n Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n{inner}"
        ),
        format!("GET / HTTP/1.1\nHost: a.test\n\n{inner}"),
        format!("GET / HTTP/1.1\r\nHost: a.test\r\nHost: b.test\r\n\r\n{inner}"),
        format!("GET http://b.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n{inner}"),
        "GET / HTTP/1.1\r\nHost: a.test\r\nUpgrade: h2c\r\nHTTP2-Settings: x\r\n\r\n".to_owned(),
        "GET / HTTP/1.1\r\n\r\n".to_owned(),
    ] {
        let answer = gateway.ask(&request);
        assert!(answer.starts_with("HTTP/1.1 400 "), "{request}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1").count(), 1, "one answer, then the end");
    }
    assert!(
        gateway
            .ask("CONNECT a.test:443 HTTP/1.1\r\nHost: a.test\r\n\r\n")
            .starts_with("HTTP/1.1 405 ")
    );
    assert!(gateway.ask("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").starts_with("HTTP/1.1 505 "));
    assert!(a.is_alone() && b.is_alone());
}

#[test]
fn a_malformed_body_closes_the_connection() {
    let (gateway, a, b) = two("");
    let head = "POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n";
    let mut client = gateway.connect("http");
    client.write_all(format!("{head}5\r\nhello").as_bytes()).unwrap();
    let mut server = a.accept();
    expect(&mut server, format!("{head}5\r\nhello").as_bytes());
    client.write_all(format!("XX0\r\n\r\n{}", get("b.test")).as_bytes()).unwrap();
    assert!(rest(client).starts_with(b"HTTP/1.1 400 "));
    assert_eq!(rest(server), b"");
    assert!(b.is_alone());
}

#[test]
fn an_ambiguous_response_becomes_a_502() {
    for bad in [
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        "HTTP/1.1 200 OK\nContent-Length: 0\n\n",
        "HTTP/1.1 101 Switching\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n1 1\r\n",
        "SSH-2.0-x\r\n",
        "",
    ] {
        let (gateway, a, _b) = two("");
        let mut client = gateway.connect("http");
        client.write_all(get("a.test").as_bytes()).unwrap();
        let mut server = a.accept();
        expect(&mut server, get("a.test").as_bytes());
        server.write_all(bad.as_bytes()).unwrap();
        server.shutdown(Shutdown::Write).unwrap();
        let answer = String::from_utf8(rest(client)).unwrap();
        assert!(
            answer.starts_with("HTTP/1.1 502 ") && answer.contains("\r\nRetry-After: "),
            "{bad:?}: {answer}"
        );
    }
}

#[test]
fn a_response_without_a_length_ends_with_its_connection() {
    let (gateway, a, _b) = two("");
    let mut client = gateway.connect("http");
    client.write_all(get("a.test").as_bytes()).unwrap();
    let mut server = a.accept();
    expect(&mut server, get("a.test").as_bytes());
    let body = vec![b'x'; 8 << 20];
    server.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
    std::thread::spawn(move || server.write_all(&body).unwrap());
    read_to(&mut client, "\r\n\r\n");
    let got = rest(client);
    assert!(got.len() == 8 << 20 && got.iter().all(|byte| *byte == b'x'));
}

#[test]
fn large_bodies_pass_in_both_directions_and_the_connection_continues() {
    let (gateway, a, _b) = two("");
    let body = vec![b'x'; 4 << 20];
    let mut client = gateway.connect("http");
    client
        .write_all(
            format!("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: {}\r\n\r\n", body.len())
                .as_bytes(),
        )
        .unwrap();
    let mut server = a.accept();
    std::thread::scope(|scope| {
        let mut from = client.try_clone().unwrap();
        let data = &body;
        scope.spawn(move || from.write_all(data).unwrap());
        read_to(&mut server, "\r\n\r\n");
        let mut got = vec![0; body.len()];
        server.read_exact(&mut got).unwrap();
        assert!(got == body);
    });
    std::thread::scope(|scope| {
        let mut to = server.try_clone().unwrap();
        let data = &body;
        scope.spawn(move || {
            to.write_all(
                format!(
                    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n",
                    data.len()
                )
                .as_bytes(),
            )
            .unwrap();
            to.write_all(data).unwrap();
            to.write_all(b"\r\n0\r\n\r\n").unwrap();
        });
        read_to(&mut client, "\r\n400000\r\n");
        let mut got = vec![0; body.len()];
        client.read_exact(&mut got).unwrap();
        assert!(got == body);
        expect(&mut client, b"\r\n0\r\n\r\n");
    });
    client.write_all(get("a.test").as_bytes()).unwrap();
    expect(&mut server, get("a.test").as_bytes());
}

#[test]
fn dead_backends_are_skipped_and_without_a_live_one_there_is_a_502() {
    let a = Backend::new();
    let address = a.address();
    a.echo_name("alive");
    let routes =
        [route("a.test", &[closed(), address], ""), route("b.test", &[closed()], "")].concat();
    let gateway = start(&config("", &routes));
    assert!(gateway.ask(&get("a.test")).ends_with("alive"));
    let answer = gateway.ask(&get("b.test"));
    assert!(
        answer.starts_with("HTTP/1.1 502 ") && answer.contains("\r\nRetry-After: "),
        "{answer}"
    );
    assert!(gateway.ask(&get("c.test")).starts_with("HTTP/1.1 404 "));
    assert!(
        gateway.ask(&get("b.test").replace("GET", "HEAD")).ends_with("\r\n\r\n"),
        "no body for HEAD"
    );
}

#[test]
fn a_request_that_a_backend_has_seen_is_not_sent_again() {
    let (first, second) = (Backend::new(), Backend::new());
    let gateway = start(&config("", &route("a.test", &[first.address(), second.address()], "")));
    let mut client = gateway.connect("http");
    client.write_all(get("a.test").as_bytes()).unwrap();
    let mut server = first.accept();
    expect(&mut server, get("a.test").as_bytes());
    drop(server);
    assert!(rest(client).starts_with(b"HTTP/1.1 502 "));
    assert!(second.is_alone());
}

#[test]
fn a_redirect_keeps_path_and_host() {
    let redirect = "[[route]]\nnames = [\"a.test\"]\nredirect = \"https\"\n";
    let gateway = start(&config("", redirect));
    let answer = gateway.ask("GET /x?y=%20z HTTP/1.1\r\nHost: A.test:8080\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 308 "), "{answer}");
    assert!(answer.contains("\r\nLocation: https://a.test/x?y=%20z\r\n"), "{answer}");
}

/// Returns the head that the backend gets; checks that a second request gets the same changes.
fn seen(gateway: &Gateway, a: &Backend, request: &str) -> String {
    let mut client = gateway.connect("http");
    client.write_all(request.as_bytes()).unwrap();
    let mut server = a.accept();
    let head = read_to(&mut server, "\r\n\r\n");
    server.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").unwrap();
    expect(&mut client, b"HTTP/1.1 204 No Content\r\n\r\n");
    client.write_all(request.as_bytes()).unwrap();
    if head.contains("Connection: close\r\n") {
        assert_eq!(rest(client), b"", "one request per connection");
    } else {
        assert_eq!(
            read_to(&mut server, "\r\n\r\n"),
            head,
            "the second request gets the same changes"
        );
    }
    head
}

#[test]
fn a_client_cannot_forge_its_address_and_every_request_has_it() {
    let request = "GET / HTTP/1.1\r\nHost: a.test\r\nX-Forwarded-For: 6.6.6.6\r\nforwarded: for=6.6.6.6\r\nX-Forwarded-Host: evil\r\nX-Other: y\r\n\r\n";
    let (gateway, a, _b) = two("");
    assert_eq!(seen(&gateway, &a, request), "GET / HTTP/1.1\r\nHost: a.test\r\nX-Other: y\r\n\r\n");
    let (gateway, a, _b) = two("forwarded = true");
    assert_eq!(
        seen(&gateway, &a, request),
        "GET / HTTP/1.1\r\nHost: a.test\r\nX-Other: y\r\nX-Forwarded-For: 127.0.0.1\r\nX-Forwarded-Proto: http\r\n\
         Forwarded: for=127.0.0.1;host=\"a.test\";proto=http\r\n\r\n"
    );
    let a = Backend::new();
    let gateway = start(&config(
        "trusted = [\"127.0.0.0/8\"]",
        &route("a.test", &[a.address()], "forwarded = true"),
    ));
    let head = seen(&gateway, &a, request);
    assert!(
        head.contains("X-Forwarded-For: 6.6.6.6\r\n")
            && head.contains("X-Forwarded-For: 127.0.0.1\r\n"),
        "{head}"
    );
}

#[test]
fn a_route_can_ask_for_one_request_per_connection() {
    let (gateway, a, _b) = two("close = true");
    let head =
        seen(&gateway, &a, "GET / HTTP/1.1\r\nHost: a.test\r\nConnection: keep-alive\r\n\r\n");
    assert_eq!(head, "GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n");
}

#[test]
fn a_proxy_header_is_accepted_only_from_peers_that_must_send_one() {
    let a = Backend::new();
    let routes = route("a.test", &[a.address()], "forwarded = true\nproxy-out = \"v1\"");
    let gateway = start(&config("proxy-in = [\"127.0.0.1\"]", &routes));
    let line = "PROXY TCP4 192.0.2.7 192.0.2.1 4444 80\r\n";
    let mut client = gateway.connect("http");
    client.write_all(format!("{line}{}", get("a.test")).as_bytes()).unwrap();
    let mut server = a.accept();
    expect(&mut server, line.as_bytes());
    assert!(read_to(&mut server, "\r\n\r\n").contains("\r\nX-Forwarded-For: 192.0.2.7\r\n"));
    assert_eq!(gateway.ask(&get("a.test")), "", "a missing header is not guessed");
    let (gateway, a, _b) = two("");
    assert!(gateway.ask(&format!("{line}{}", get("a.test"))).starts_with("HTTP/1.1 400 "));
    assert!(a.is_alone());
}

#[test]
fn version_2_of_the_proxy_header_has_the_name_that_the_client_asked_for() {
    let a = Backend::new();
    let gateway = start(&config("", &route("a.test", &[a.address()], "proxy-out = \"v2\"")));
    let mut client = gateway.connect("http");
    client.write_all(get("A.test").as_bytes()).unwrap();
    let mut server = a.accept();
    let head = read_to(&mut server, "\x02\0\x06a.test");
    assert!(head.starts_with("\r\n\r\n\0\r\nQUIT\n!\x11"), "{head:?}");
    let own: SocketAddr = client.local_addr().unwrap();
    assert_eq!(own.ip().to_string(), "127.0.0.1");
    expect(&mut server, get("A.test").as_bytes());
}

#[test]
fn a_slow_head_and_a_silent_backend_end_with_an_answer() {
    let a = Backend::new();
    let keys = "hello-timeout = 0.3\nidle-timeout = 0.5";
    let gateway = start(&config(keys, &route("a.test", &[a.address()], "")));
    assert_eq!(gateway.ask(""), "", "a silent client gets no answer");
    assert!(gateway.ask("GET / HT").starts_with("HTTP/1.1 408 "));
    let mut client = gateway.connect("http");
    client.write_all(get("a.test").as_bytes()).unwrap();
    let mut server = a.accept();
    assert!(rest(client).starts_with(b"HTTP/1.1 504 "));
    expect(&mut server, get("a.test").as_bytes());
    let (mut client, _server) = begun(&gateway, &a, &get("a.test"), OK);
    client.write_all(b"GET / HT").unwrap();
    assert!(rest(client).starts_with(b"HTTP/1.1 408 "), "a later head has the same deadline");
    let (client, _server) = begun(&gateway, &a, &get("a.test"), OK);
    assert_eq!(rest(client), b"", "an idle connection ends without an answer");
}

#[test]
fn an_error_reaches_a_client_that_is_still_sending() {
    let (gateway, _a, _b) = two("");
    let endless = format!("GET / HTTP/1.1\r\nHost: a.test\r\nX: {}", "x".repeat(200_000));
    assert!(gateway.ask(&endless).starts_with("HTTP/1.1 431 "));
}

#[test]
fn a_client_that_has_stopped_sending_gets_its_response() {
    let (gateway, a, _b) = two("");
    let mut client = gateway.connect("http");
    client.write_all(get("a.test").as_bytes()).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let mut server = a.accept();
    expect(&mut server, get("a.test").as_bytes());
    server.write_all(OK.as_bytes()).unwrap();
    assert_eq!(rest(client), OK.as_bytes());
}

#[test]
fn a_reset_at_any_moment_affects_no_other_connection() {
    let (gateway, a, b) = two("");
    b.echo_name("b");
    let reset = |stream: TcpStream| {
        rustix::net::sockopt::set_socket_linger(&stream, Some(std::time::Duration::ZERO)).unwrap();
    };
    let body = "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 9\r\n\r\n1234";
    let half = "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n1234";
    for (request, answer) in [
        ("GET / HTTP/1.1\r\nHo", None),
        (get("a.test").as_str(), None),
        (get("a.test").as_str(), Some("HTTP/1.1 2")),
        (get("a.test").as_str(), Some(half)),
        (get("a.test").as_str(), Some(OK)),
        (body, None),
        (body, Some(half)),
    ] {
        for by_client in [true, false] {
            let mut client = gateway.connect("http");
            client.write_all(request.as_bytes()).unwrap();
            if !request.contains("a.test") {
                reset(client);
                continue;
            }
            let mut server = a.accept();
            expect(&mut server, request.as_bytes());
            server.write_all(answer.unwrap_or_default().as_bytes()).unwrap();
            if by_client {
                reset(client);
                ended(&mut server);
            } else {
                reset(server);
                rest(client);
            }
            assert!(gateway.ask(&get("b.test")).ends_with('b'), "{request:?} {answer:?}");
        }
    }
}
