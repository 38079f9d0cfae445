//! The end of connections at their deadlines, and of the program after SIGTERM.

#![expect(clippy::unwrap_used, reason = "all of this is test code")]
#![allow(dead_code, reason = "the tests share their support")]

mod support;

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use kiln_test_support::pid1;
use rustix::net::sockopt::set_socket_linger;
use rustix::process::{Signal, kill_process};
use support::{
    Backend, DEADLINE, Gateway, HELLO, OPS, asked_before_sigterm, closed, command, config, expect,
    get, last_response, rest, route, start, start_with,
};

#[test]
fn after_sigterm_open_connections_may_end_and_no_client_is_accepted() {
    let a = Backend::new();
    let mut gateway = start_with(&config("", &route("www.a.test", &[a.address()], "")), &OPS);
    let mut client = gateway.connect("tls");
    client.write_all(HELLO).unwrap();
    let mut server = a.accept();
    expect(&mut server, HELLO);
    let address = gateway.address("tls");
    gateway.signal(Signal::TERM);
    gateway.until_log("ending");
    while TcpStream::connect(address).is_ok() {}
    server.write_all(b"still").unwrap();
    expect(&mut client, b"still");
    assert!(gateway.talk("ops", b"GET /ready HTTP/1.1\r\n\r\n").starts_with(b"HTTP/1.1 503 "));
    drop((client, server));
    assert_eq!(gateway.wait(), Some(0));
}

#[test]
fn sigterm_closes_idle_http_connections_at_once() {
    let a = Backend::new();
    let mut gateway = start(&config("", &route("a.test", &[a.address()], "")));
    let mut client = gateway.connect("http");
    client.write_all(get("a.test").as_bytes()).unwrap();
    let mut server = a.accept();
    expect(&mut server, get("a.test").as_bytes());
    let answer = b"HTTP/1.1 204 No Content\r\n\r\n";
    server.write_all(answer).unwrap();
    expect(&mut client, answer);
    gateway.signal(Signal::TERM);
    assert_eq!(rest(client), b"");
    assert!(
        gateway.until_log("ended").contains("cut=0"),
        "the gateway ends as soon as no connection is open"
    );
    assert_eq!(gateway.wait(), Some(0));
}

#[test]
fn after_sigterm_a_backend_that_is_being_connected_still_responds() {
    let a = Backend::new();
    let other = a.fill();
    let mut gateway = start_with(&config("", &route("a.test", &[a.address()], "")), &OPS);
    let client = asked_before_sigterm(&gateway);
    drop((a.accept(), other));
    last_response(&a, client);
    assert!(
        gateway.until_log("ended").contains("cut=0"),
        "the gateway ends as soon as no connection is open"
    );
    assert_eq!(gateway.wait(), Some(0));
}

#[test]
fn sigterm_stops_the_gateway_as_pid_1_too() {
    let a = Backend::new();
    let config = config("", &route("www.a.test", &[a.address()], ""));
    let mut gateway = support::start_by(pid1::inside(command()), &config, &[]);
    let pid = pid1::of(&gateway.child);
    let mut client = gateway.connect("tls");
    client.write_all(HELLO).unwrap();
    let mut server = a.accept();
    expect(&mut server, HELLO);
    kill_process(pid, Signal::TERM).unwrap();
    gateway.until_log("ending");
    server.write_all(b"last words").unwrap();
    drop(server);
    assert_eq!(rest(client), b"last words");
    assert!(gateway.until_log("ended").contains("cut=0"));
    assert_eq!(gateway.wait(), Some(0));
}

#[test]
fn during_the_drain_delay_clients_are_accepted_and_readiness_is_503() {
    let a = Backend::new();
    let address = a.address();
    a.echo_name("a");
    let options = [OPS[0], OPS[1], "--drain-delay", "15"];
    let gateway = start_with(&config("", &route("www.a.test", &[address], "")), &options);
    let ready = |gateway: &Gateway| gateway.talk("ops", b"GET /ready HTTP/1.1\r\n\r\n");
    assert!(ready(&gateway).starts_with(b"HTTP/1.1 200 "));
    gateway.signal(Signal::TERM);
    gateway.until_log("ending");
    assert!(ready(&gateway).starts_with(b"HTTP/1.1 503 "));
    assert!(gateway.talk("tls", HELLO).ends_with(b"a"));
}

#[test]
fn after_the_drain_delay_no_client_is_accepted() {
    let config = config("", &route("a.test", &[closed()], ""));
    let mut gateway = start_with(&config, &["--drain-delay", "1"]);
    let address = gateway.address("tls");
    gateway.signal(Signal::TERM);
    gateway.until_log("ending");
    while TcpStream::connect(address).is_ok() {}
    assert_eq!(gateway.wait(), Some(0));
}

/// Opens a TLS connection on which a byte has moved in each direction.
fn begun(gateway: &Gateway, a: &Backend) -> (TcpStream, TcpStream) {
    let mut client = gateway.connect("tls");
    client.write_all(HELLO).unwrap();
    let mut server = a.accept();
    expect(&mut server, HELLO);
    server.write_all(b"x").unwrap();
    expect(&mut client, b"x");
    (client, server)
}

/// Returns the reason why the next connection ended, and its duration in milliseconds.
fn next_end(lines: &Receiver<String>) -> (String, u128) {
    let line = lines.recv_timeout(DEADLINE).unwrap();
    let field = |name: &str| {
        let rest = line.split_once(name).unwrap().1;
        rest.split(['\"', ',', '}']).next().unwrap().to_owned()
    };
    (field("\"end\":\""), field("\"ms\":").parse().unwrap())
}

#[test]
fn a_lifetime_ends_a_connection_that_is_not_idle() {
    let a = Backend::new();
    let config = config("lifetime = 0.5", &route("www.a.test", &[a.address()], ""));
    let mut gateway = start_with(&config, &["--access-log"]);
    let ends = gateway.output();
    let (mut client, mut server) = begun(&gateway, &a);
    let mut byte = [0];
    while client.write_all(b"x").is_ok() && matches!(server.read(&mut byte), Ok(1)) {}
    let (end, millis) = next_end(&ends);
    assert_eq!(end, "lifetime");
    assert!(millis >= 500, "after {millis} ms");
}

#[test]
fn a_connection_is_idle_only_while_no_byte_moves() {
    let a = Backend::new();
    let config = config("idle-timeout = 2", &route("www.a.test", &[a.address()], ""));
    let mut gateway = start_with(&config, &["--access-log"]);
    let ends = gateway.output();
    let (mut client, mut server) = begun(&gateway, &a);
    // Single bytes, for longer than the idle timeout.
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(3) {
        client.write_all(b"x").unwrap();
        expect(&mut server, b"x");
    }
    assert_eq!(rest(client), b"");
    let (end, millis) = next_end(&ends);
    assert_eq!(end, "idle-timeout");
    // Both times together, minus the time between the last byte and the end of the loop.
    assert!(millis >= 4500, "after {millis} ms");
}

#[test]
fn a_half_closed_connection_has_its_own_deadline() {
    let a = Backend::new();
    let keys = "idle-timeout = 3600\nhalf-closed-timeout = 0.2";
    let mut gateway =
        start_with(&config(keys, &route("www.a.test", &[a.address()], "")), &["--access-log"]);
    let ends = gateway.output();
    let (client, server) = begun(&gateway, &a);
    client.shutdown(Shutdown::Write).unwrap();
    // The backend gets the end, and keeps its own side open.
    assert_eq!(rest(server.try_clone().unwrap()), b"");
    assert_eq!(rest(client), b"");
    assert_eq!(next_end(&ends).0, "half-closed-timeout");
    drop(server);
}

#[test]
fn a_silent_backend_ends_as_idle() {
    let a = Backend::new();
    let config = config("idle-timeout = 0.3", &route("www.a.test", &[a.address()], ""));
    let mut gateway = start_with(&config, &["--access-log"]);
    let ends = gateway.output();
    let mut client = gateway.connect("tls");
    client.write_all(HELLO).unwrap();
    let _server = a.accept();
    assert_eq!(rest(client), b"");
    assert_eq!(next_end(&ends).0, "idle-timeout");
}

#[test]
fn a_client_that_resets_while_its_backend_is_being_connected_is_closed_at_once() {
    for (kind, bytes) in [("tls", HELLO.to_vec()), ("http", get("www.a.test").into_bytes())] {
        let a = Backend::new();
        let _others = a.fill();
        let config = config("", &route("www.a.test", &[a.address()], ""));
        let mut gateway = start_with(&config, &[&OPS[..], &["--access-log"]].concat());
        let ends = gateway.output();
        let mut client = gateway.connect(kind);
        client.write_all(&bytes).unwrap();
        let route = "kiln_gateway_route_connections_total{route=\"www.a.test\"}";
        gateway.until_metric(route, 1);
        set_socket_linger(&client, Some(Duration::ZERO)).unwrap();
        drop(client);
        // Not only when the connect timeout has passed.
        assert_eq!(next_end(&ends).0, "client-reset", "{kind}");
    }
}
