//! Operation of the program: sockets, signals, operators' port, logs.

#![expect(clippy::unwrap_used, reason = "all of this is test code")]

mod common;

use std::ffi::OsStr;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::fd::AsRawFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::time::Instant;

use common::{DEADLINE, LAST, Server, folder, rest, start, start_command, start_in};
use kiln_test_support::{client, pid1};
use rustix::process::{Resource, Rlimit, Signal, kill_process, setrlimit};

/// Starts a server with an operators' port. That port is logged before the clients' port, so the
/// test chooses a number that was free a moment ago.
fn with_operators(options: &[&str]) -> (Server, String) {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let address = free.to_string();
    let all = [&["--ops-addr", &address], options].concat();
    (start(&all), address)
}

fn ask(address: &str, path: &str) -> String {
    let mut stream = client::connect(address.parse().unwrap());
    stream.write_all(LAST.replace("/ HTTP", &format!("{path} HTTP")).as_bytes()).unwrap();
    rest(stream)
}

#[test]
fn operators_have_a_port_for_health_and_metrics() {
    let (server, operators) = with_operators(&["--workers", "2"]);
    assert!(server.get("/metrics").starts_with("HTTP/1.1 404 "));
    assert!(ask(&operators, "/live").ends_with("ok\n"));
    assert!(ask(&operators, "/ready").ends_with("ok\n"));
    assert!(ask(&operators, "/").starts_with("HTTP/1.1 404 "));
    let metrics = ask(&operators, "/metrics");
    assert!(metrics.contains("\nkiln_web_ready 1\n"), "{metrics}");
    assert!(metrics.contains("\nkiln_web_answers_total{code=\"2xx\"} "), "{metrics}");
}

#[test]
fn during_the_drain_delay_the_server_is_not_ready_and_still_serves() {
    let (mut server, operators) = with_operators(&["--drain-delay-secs", "2"]);
    server.signal(Signal::TERM);
    server.until_log("stopping");
    assert!(ask(&operators, "/ready").starts_with("HTTP/1.1 503 "));
    assert!(server.get("/ready").starts_with("HTTP/1.1 503 "));
    assert!(server.get("/").ends_with("page"));
    assert_eq!(server.child.wait().unwrap().code(), Some(0));
}

#[test]
fn clients_in_the_queue_are_answered_at_the_end() {
    for workers in ["1", "3"] {
        let mut server = start(&["--workers", workers]);
        let mut waiting: Vec<TcpStream> = (0..40).map(|_| server.connect()).collect();
        server.signal(Signal::TERM);
        for stream in &mut waiting {
            stream.write_all(LAST.as_bytes()).unwrap();
        }
        let begin = Instant::now();
        for stream in waiting {
            assert!(rest(stream).ends_with("page"));
        }
        assert_eq!(server.child.wait().unwrap().code(), Some(0));
        assert!(begin.elapsed() < DEADLINE);
    }
}

#[test]
fn sigterm_stops_the_server_as_pid_1_too() {
    let mut server = start_command(pid1::inside(common::command()), folder(), "", &[]);
    let pid = pid1::of(&server.child);
    let mut asked = server.connect();
    asked.write_all(LAST.replace("/ ", "/large ").as_bytes()).unwrap();
    asked.read_exact(&mut [0]).unwrap();
    kill_process(pid, Signal::TERM).unwrap();
    server.until_log("stopping");
    assert!(rest(asked).ends_with('x'));
    assert_eq!(server.child.wait().unwrap().code(), Some(0));
}

#[test]
fn an_inherited_descriptor_is_listened_on() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let number = listener.as_raw_fd().to_string();
    let mut command = common::command();
    let keep = move || Ok(rustix::io::fcntl_setfd(&listener, rustix::io::FdFlags::empty())?);
    // SAFETY: between fork and exec only one system call is made, and nothing is allocated.
    unsafe { command.pre_exec(keep) };
    let server = start_command(command, folder(), "", &["--listen-fd", &number]);
    assert_eq!(server.address, address);
    assert!(server.get("/").ends_with("page"));
}

#[test]
fn invalid_settings_are_counted() {
    let place = folder();
    let config = place.path().join(".settings.toml");
    fs::write(&config, "poll-secs = 0\n").unwrap();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let operators = free.to_string();
    let options = ["--config", config.to_str().unwrap(), "--ops-addr", &operators];
    let server = start_in(place, "", &options);
    let failed = |count| {
        let line = format!("\nkiln_web_failed_reloads_total {count}\n");
        assert!(ask(&operators, "/metrics").contains(&line), "{line}");
    };
    failed(0);
    fs::write(&config, "poll-secs = x\n").unwrap();
    server.signal(Signal::HUP);
    server.until_log(".settings.toml:1: ");
    failed(1);
    assert!(server.get("/ready").ends_with("ok\n"));
}

#[test]
fn settings_whose_content_cannot_be_read_leave_the_old_content_followed_and_ready() {
    // Small, because the time between two checks grows with the duration of the last one.
    let place = tempfile::tempdir().unwrap();
    fs::write(place.path().join("index.html"), "page").unwrap();
    let config = place.path().join(".settings.toml");
    fs::write(&config, "").unwrap();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let operators = free.to_string();
    let options = ["--config", config.to_str().unwrap(), "--ops-addr", &operators];
    let server = start_in(place, "", &options);
    fs::write(&config, "hosts = \"/nowhere\"\npoll-secs = 0\n").unwrap();
    server.signal(Signal::HUP);
    server.until_log("cannot open the folder /nowhere");
    fs::write(server.path().join("index.html"), "another page").unwrap();
    server.until_body("/", "another page");
    assert!(server.get("/ready").ends_with("ok\n"));
    let metrics = ask(&operators, "/metrics");
    assert!(metrics.contains("\nkiln_web_failed_reloads_total 1\n"), "{metrics}");
}

#[test]
fn few_descriptors_are_enough_to_serve() {
    let mut command = common::command();
    let few = Rlimit { current: Some(64), maximum: Some(64) };
    // SAFETY: between fork and exec only one system call is made, and nothing is allocated.
    unsafe { command.pre_exec(move || Ok(setrlimit(Resource::Nofile, few)?)) };
    let server = start_command(command, folder(), "", &["--workers", "2"]);
    let held: Vec<TcpStream> = (0..100).map(|_| server.connect()).collect();
    assert!(server.get("/").ends_with("page"));
    assert!(server.get("/large").ends_with('x'));
    drop(held);
    assert!(server.get("/").ends_with("page"));
}

/// Returns a command without the capabilities with which root ignores a file's mode.
fn command_bound_by_modes() -> std::process::Command {
    use rustix::thread::{CapabilitySet, remove_capability_from_bounding_set};
    let mut command = common::command();
    let drop = || {
        for capability in [CapabilitySet::DAC_OVERRIDE, CapabilitySet::DAC_READ_SEARCH] {
            // A user other than root may not do this, and does not have to.
            let _ = remove_capability_from_bounding_set(capability);
        }
        Ok(())
    };
    // SAFETY: between fork and exec only two system calls are made, and nothing is allocated.
    unsafe { command.pre_exec(drop) };
    command
}

#[test]
fn an_incomplete_site_is_served_and_not_ready() {
    let mode = |path: &Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    // Small, because the time between two checks grows with the duration of the last one.
    let place = tempfile::tempdir().unwrap();
    fs::write(place.path().join("index.html"), "page").unwrap();
    let locked = place.path().join("locked");
    fs::write(&locked, "locked").unwrap();
    mode(&locked, 0);
    let server = start_command(command_bound_by_modes(), place, "", &[]);
    assert!(server.get("/ready").starts_with("HTTP/1.1 503 "));
    assert!(server.get("/health").starts_with("HTTP/1.1 200 "));
    assert!(server.get("/locked").starts_with("HTTP/1.1 404 "));
    assert!(server.get("/").ends_with("page"));
    fs::write(server.path().join("index.html"), "another page").unwrap();
    server.until_body("/", "another page");
    assert!(server.get("/ready").starts_with("HTTP/1.1 503 "));
    mode(&locked, 0o600);
    server.until_body("/locked", "locked");
    server.until_body("/ready", "ok\n");
}

#[test]
fn a_name_that_is_not_utf_8_is_requested_by_its_bytes() {
    let place = folder();
    fs::write(place.path().join(OsStr::from_bytes(b"a\xff \n")), "odd").unwrap();
    let server = start_in(place, "", &[]);
    assert!(server.get("/a%ff%20%0A").ends_with("\r\n\r\nodd"));
    assert!(server.get("/a%fe%20%0A").starts_with("HTTP/1.1 404 "));
}

#[test]
fn a_unix_socket_replaces_the_port() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("socket");
    let _server = start(&["--unix-socket", path.to_str().unwrap()]);
    let mut stream = UnixStream::connect(&path).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.write_all(LAST.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.ends_with("page"));
}

#[test]
fn each_answer_is_a_line_of_json() {
    let mut server = start(&["--access-log", "json"]);
    server.get("/a\"b?x");
    server.talk("nonsense\r\n\r\n");
    let lines = server.output();
    let first = lines.recv_timeout(DEADLINE).unwrap();
    assert!(
        first.contains("\"request\":\"GET /a\\\"b?x HTTP/1.1\",\"host\":\"a\",\"status\":404,"),
        "{first}"
    );
    assert!(first.contains("\"client\":\"127.0.0.1:"), "{first}");
    let second = lines.recv_timeout(DEADLINE).unwrap();
    assert!(second.contains("\"request\":null,\"host\":null,\"status\":400,"), "{second}");
}

#[test]
fn an_access_log_that_is_not_read_holds_up_no_client() {
    let server = start(&["--access-log", "json"]);
    // More lines than the pipe and the buffer hold.
    let long = format!("/{}", "x".repeat(4000));
    for _ in 0..200 {
        assert!(server.get(&long).starts_with("HTTP/1.1 404 "));
    }
}

#[test]
fn each_host_has_its_site() {
    let place = folder();
    fs::create_dir_all(place.path().join("one.example")).unwrap();
    fs::write(place.path().join("one.example/index.html"), "one").unwrap();
    let hosts = place.path().to_str().unwrap().to_owned();
    let server = start_in(place, "", &["--hosts", &hosts]);
    assert!(server.talk(&LAST.replace("Host: a", "Host: ONE.example.:80")).ends_with("one"));
    assert!(server.get("/").starts_with("HTTP/1.1 421 "));
    assert!(server.get("/ready").ends_with("ok\n"));
}
