//! The program itself, over loopback sockets, on ports that the kernel chooses.
//!
//! Nothing here sleeps; a socket's timeout only ends a test that would hang.

#![expect(clippy::unwrap_used, reason = "all of this is test code")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, prlimit};

const DEADLINE: Duration = Duration::from_secs(20);
const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const LAST: &str = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";

/// More than the kernel buffers for a connection over loopback.
const LARGE: usize = 16 << 20;

/// A server with a folder of its own; killed when dropped.
struct Server {
    child: Child,
    address: String,
    _folder: tempfile::TempDir,
    _log: BufReader<ChildStderr>,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[expect(clippy::disallowed_methods, reason = "the test's own child, not part of a build")]
fn command() -> Command {
    Command::new(env!("CARGO_BIN_EXE_static-server"))
}

fn start(options: &[&str]) -> Server {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("index.html"), "page").unwrap();
    std::fs::write(folder.path().join("large"), vec![b'x'; LARGE]).unwrap();
    let mut command = command();
    command.args(["-b", "127.0.0.1", "-p", "0", "-s"]).arg(folder.path()).args(options);
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut log = BufReader::new(child.stderr.take().unwrap());
    let address = loop {
        let mut line = String::new();
        assert!(log.read_line(&mut line).unwrap() > 0, "it ended before it served");
        if let Some((_, address)) = line.trim().split_once("serving on ") {
            break address.to_owned();
        }
    };
    Server { child, address, _folder: folder, _log: log }
}

impl Server {
    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.set_write_timeout(Some(DEADLINE)).unwrap();
        stream
    }

    /// All that is answered until the server closes.
    fn talk(&self, request: &str) -> String {
        let mut stream = self.connect();
        stream.write_all(request.as_bytes()).unwrap();
        rest(stream)
    }

    /// Sends SIGTERM.
    fn terminate(&self) {
        kill_process(self.pid(), Signal::TERM).unwrap();
    }
}

fn rest(mut stream: TcpStream) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

/// Reads exactly one answer of the page.
fn page(stream: &mut TcpStream) {
    let mut text = Vec::new();
    while !text.ends_with(b"\r\n\r\npage") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        text.push(byte[0]);
    }
    assert!(text.starts_with(b"HTTP/1.1 200 OK\r\n"));
}

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
    assert!(all.len() > LARGE, "the slow reader gets all of it");
}

#[test]
fn an_idle_connection_and_a_slow_head_are_ended() {
    let server = start(&["-k", "1", "-c", "1"]);
    let mut idle = server.connect();
    idle.write_all(GET.as_bytes()).unwrap();
    let mut slow = server.connect();
    slow.write_all(b"GET /").unwrap();
    assert!(rest(idle).ends_with("page"));
    assert!(rest(slow).starts_with("HTTP/1.1 408 "));
}

#[test]
fn those_who_only_hold_connections_do_not_keep_others_out() {
    let server = start(&[]);
    // The limit of connections was taken from the limit of descriptors at the start, so all that
    // this does is to make accept(2) fail.
    let few = Rlimit { current: Some(20), maximum: Some(20) };
    prlimit(Some(server.pid()), Resource::Nofile, few).unwrap();
    let held: Vec<TcpStream> = (0..20).map(|_| server.connect()).collect();
    assert!(server.talk(LAST).ends_with("page"));
    drop(held);
}

#[test]
fn sigterm_ends_it_at_once_and_answers_what_was_asked() {
    let mut server = start(&[]);
    let mut idle = server.connect();
    idle.write_all(GET.as_bytes()).unwrap();
    page(&mut idle);
    let mut asked = server.connect();
    asked.write_all(GET.replace("/ ", "/large ").as_bytes()).unwrap();
    // A byte of the answer has come, so it is under way; most of it does not fit into buffers.
    asked.read_exact(&mut [0]).unwrap();
    let start = Instant::now();
    server.terminate();
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
    let mut server = start(&[]);
    let mut stuck = server.connect();
    stuck.write_all(GET.replace("/ ", "/large ").as_bytes()).unwrap();
    stuck.read_exact(&mut [0]).unwrap();
    server.terminate();
    assert_eq!(server.child.wait().unwrap().code(), Some(0));
}

#[test]
fn what_cannot_work_ends_with_its_code_and_one_line() {
    let server = start(&[]);
    let port = server.address.rsplit(':').next().unwrap();
    let check = |args: &[&str], code: i32, text: &str| {
        let output = command().args(args).output().unwrap();
        let log = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{log}");
        assert!(log.lines().last().unwrap().contains(text), "{log}");
    };
    check(&["--nonsense"], 64, "unknown option --nonsense");
    check(&["-s", "/nowhere"], 78, "opening the folder /nowhere: No such file");
    check(&["-s", "content", "-b", "127.0.0.1", "-p", port], 75, "listening on 127.0.0.1:");
}
