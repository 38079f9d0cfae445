//! The program itself, over loopback sockets, on ports that the kernel chooses.

#![expect(clippy::unwrap_used, reason = "all of this is test code")]

mod common;

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::time::Instant;

use common::{DEADLINE, GET, LARGE, LAST, command, page, rest, start};
use rustix::process::{Pid, Resource, Rlimit, Signal, prlimit};

#[test]
fn each_kind_of_request_gets_its_status() {
    let server = start(&[]);
    for (request, status) in [
        (LAST.to_owned(), "200 OK"),
        (LAST.replace("GET", "HEAD"), "200 OK"),
        (LAST.replace("GET /", "OPTIONS *"), "204 No Content"),
        (LAST.replace("GET", "POST"), "405 Method Not Allowed"),
        (LAST.replace("GET", "BREW"), "501 Not Implemented"),
        (LAST.replace("/ ", "/none "), "404 Not Found"),
        (LAST.replace("/ ", "/health "), "200 OK"),
        (LAST.replace("/ ", "/ready "), "200 OK"),
        (LAST.replace("/ ", "/../etc/passwd "), "400 Bad Request"),
        (LAST.replace("Host: a\r\n", ""), "400 Bad Request"),
        (format!("GET /{} HTTP/1.1\r\n", "x".repeat(9000)), "414 URI Too Long"),
        ("GET / HTTP/2.0\r\n\r\n".to_owned(), "505 HTTP Version Not Supported"),
    ] {
        let answer = server.talk(&request);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{request:.60}: {answer}");
    }
}

#[test]
fn a_connection_is_kept_and_pipelined_requests_are_answered() {
    let server = start(&[]);
    let mut stream = server.connect();
    for _ in 0..3 {
        stream.write_all(GET.as_bytes()).unwrap();
        page(&mut stream);
    }
    stream.write_all([GET, GET, LAST].concat().as_bytes()).unwrap();
    assert_eq!(rest(stream).matches("\r\n\r\npage").count(), 3);
}

#[test]
fn a_client_that_sends_no_more_still_gets_its_answer() {
    let server = start(&[]);
    let mut stream = server.connect();
    stream.write_all(GET.as_bytes()).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    assert!(rest(stream).ends_with("page"));
}

#[test]
fn an_error_reaches_a_client_that_is_still_sending() {
    let server = start(&[]);
    let endless = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}", "x".repeat(200_000));
    assert!(server.talk(&endless).starts_with("HTTP/1.1 431 "));
    let many = format!("GET / HTTP/1.1\r\nHost: a\r\n{}", "X: y\r\n".repeat(5000));
    assert!(server.talk(&many).starts_with("HTTP/1.1 431 "));
}

#[test]
fn a_body_is_never_mistaken_for_a_request() {
    let server = start(&[]);
    let first = format!("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{GET}", GET.len());
    let answers = server.talk(&[&first, LAST].concat());
    assert_eq!(answers.matches("HTTP/1.1 200 OK").count(), 2);
    let large = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 900000\r\n\r\n";
    let answers = server.talk(&[large, &"x".repeat(900_000), GET].concat());
    assert!(answers.starts_with("HTTP/1.1 405 ") && answers.matches("HTTP/1.1 ").count() == 1);
}

#[test]
fn parts_of_a_large_file_are_complete() {
    let server = start(&[]);
    let ask = |range: &str| {
        let request = LAST.replace("/ HTTP", "/large HTTP");
        let request =
            request.replace("Host: a\r\n", &format!("Host: a\r\nRange: bytes={range}\r\n"));
        let answer = server.talk(&request);
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.to_owned(), body.to_owned())
    };
    let (head, body) = ask("100-1000099");
    assert!(head.contains("\r\nContent-Range: bytes 100-1000099/16777216\r\n"), "{head}");
    assert_eq!(body, "x".repeat(1_000_000));
    let (head, body) = ask("0-99999,200000-499999,-1");
    assert!(head.contains(&format!("\r\nContent-Length: {}\r\n", body.len())), "{head}");
    assert_eq!(body.matches('x').count(), 400_001);
}

#[test]
fn an_endless_pipeline_is_served_in_turn_with_others() {
    let server = start(&[]);
    let mut greedy = server.connect();
    let many = GET.repeat(500);
    // The client never reads, so the server cannot write everything.
    greedy.set_nonblocking(true).unwrap();
    while greedy.write_all(many.as_bytes()).is_ok() {}
    assert!(server.talk(LAST).ends_with("page"));
}

#[test]
fn many_idle_connections_take_little_memory() {
    let server = start(&["--workers", "1"]);
    let held: Vec<TcpStream> = (0..900).map(|_| server.connect()).collect();
    assert!(server.talk(LAST).ends_with("page"));
    let path = format!("/proc/{}/status", server.child.id());
    let status = std::fs::read_to_string(path).unwrap();
    let anonymous = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    let kib: u64 = anonymous.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(kib < 2048, "{kib} KiB");
    drop(held);
}

#[test]
fn slow_senders_and_slow_readers_do_not_hold_up_others() {
    let server = start(&[]);
    let slow: Vec<TcpStream> = (0..50)
        .map(|index| {
            let mut stream = server.connect();
            let request = if index % 2 == 0 { "GET / HT" } else { &GET.replace("/ ", "/large ") };
            stream.write_all(request.as_bytes()).unwrap();
            stream
        })
        .collect();
    assert!(server.talk(LAST).ends_with("page"));
    let mut reader = slow.into_iter().nth(1).unwrap();
    reader.shutdown(Shutdown::Write).unwrap();
    let mut all = Vec::new();
    reader.read_to_end(&mut all).unwrap();
    assert!(all.len() > LARGE, "the slow reader got a part only");
}

#[test]
fn an_idle_connection_and_a_slow_head_are_closed() {
    let server = start(&["-k", "1", "-c", "1"]);
    let mut idle = server.connect();
    idle.write_all(GET.as_bytes()).unwrap();
    let mut slow = server.connect();
    slow.write_all(b"GET /").unwrap();
    assert!(rest(idle).ends_with("page"));
    assert!(rest(slow).starts_with("HTTP/1.1 408 "));
}

#[test]
fn clients_that_only_hold_connections_do_not_keep_others_out() {
    let server = start(&[]);
    // The server took its limit of connections from the limit of descriptors at the start, so the
    // only effect of the new limit is that accept(2) fails.
    let few = Rlimit { current: Some(20), maximum: Some(20) };
    prlimit(Some(Pid::from_child(&server.child)), Resource::Nofile, few).unwrap();
    let held: Vec<TcpStream> = (0..20).map(|_| server.connect()).collect();
    assert!(server.talk(LAST).ends_with("page"));
    drop(held);
}

#[test]
fn sigterm_stops_the_server_at_once_after_the_pending_answers() {
    let mut server = start(&[]);
    let mut idle = server.connect();
    idle.write_all(GET.as_bytes()).unwrap();
    page(&mut idle);
    let mut asked = server.connect();
    asked.write_all(GET.replace("/ ", "/large ").as_bytes()).unwrap();
    // A byte has arrived, so the answer is under way. Most of it does not fit into buffers.
    asked.read_exact(&mut [0]).unwrap();
    let start = Instant::now();
    server.signal(Signal::TERM);
    let mut all = Vec::new();
    asked.read_to_end(&mut all).unwrap();
    assert!(all.len() > LARGE);
    assert_eq!(rest(idle), "");
    drop(asked);
    assert_eq!(server.child.wait().unwrap().code(), Some(0));
    assert!(start.elapsed() < DEADLINE);
}

#[test]
fn sigterm_does_not_wait_for_clients_that_do_nothing() {
    let mut server = start(&["-c", "1"]);
    let mut stuck = server.connect();
    stuck.write_all(GET.replace("/ ", "/large ").as_bytes()).unwrap();
    stuck.read_exact(&mut [0]).unwrap();
    server.signal(Signal::TERM);
    assert_eq!(server.child.wait().unwrap().code(), Some(0));
}

#[test]
fn clients_that_disappear_leave_nothing_behind() {
    let server = start(&["--ops-addr", "127.0.0.1:0", "--workers", "1"]);
    for _ in 0..50 {
        let mut stream = server.connect();
        stream.write_all(GET.replace("/ HTTP", "/large HTTP").as_bytes()).unwrap();
        stream.read_exact(&mut [0]).unwrap();
        // Unread bytes make this close a reset.
        drop(stream);
    }
    let descriptors =
        || std::fs::read_dir(format!("/proc/{}/fd", server.child.id())).unwrap().count();
    let begin = Instant::now();
    while descriptors() > 20 {
        assert!(server.talk(LAST).ends_with("page"));
        assert!(begin.elapsed() < DEADLINE, "{} descriptors", descriptors());
    }
}

#[test]
fn a_failed_start_has_an_exit_code_and_one_line() {
    let server = start(&[]);
    let port = server.address.rsplit(':').next().unwrap();
    let check = |args: &[&str], code: i32, text: &str| {
        let output = command().args(args).output().unwrap();
        let log = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{log}");
        assert!(log.lines().last().unwrap().contains(text), "{log}");
    };
    check(&["--nonsense"], 64, "unknown option --nonsense");
    check(&["-s", "/nowhere"], 78, "cannot open the folder /nowhere: No such file");
    check(&["-s", "content", "-b", "127.0.0.1", "-p", port], 75, "cannot listen on 127.0.0.1:");
}
