//! Reload, caps, checks, logs and the command line of the program.

#![expect(clippy::unwrap_used, reason = "all of this is test code")]
#![allow(dead_code, reason = "the tests share their support")]

mod support;

use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};

use rustix::process::Signal;
use support::{
    Backend, DEADLINE, HELLO, OPS, closed, command, config, get, route, start, start_with,
};

#[test]
fn an_invalid_file_changes_nothing_and_is_counted() {
    let a = Backend::new();
    let address = a.address();
    a.echo_name("a");
    let gateway = start_with(&config("", &route("www.a.test", &[address], "")), &OPS);
    for bad in
        ["[nonsense]\n", "[[route]]\nnames = [\"a..test\"]\nbackends = [\"10.0.0.1:1\"]\n", "= ="]
    {
        std::fs::write(&gateway.file, bad).unwrap();
        gateway.signal(Signal::HUP);
        let line = gateway.until_log("the old configuration stays");
        assert!(line.contains("gateway.toml:"), "{line}");
        assert!(gateway.talk("tls", HELLO).ends_with(b"a"));
    }
    assert!(gateway.metric("kiln_gateway_refused_reloads_total") >= 3);
}

#[test]
fn a_reload_that_removes_every_route_or_listener_must_be_allowed() {
    let a = Backend::new();
    let address = a.address();
    a.echo_name("a");
    let whole = config("", &route("www.a.test", &[address], ""));
    let gateway = start_with(&whole, &OPS);
    let listeners = config("", "");
    let routes = route("www.a.test", &[address], "");
    for cut in ["", &listeners, &routes] {
        std::fs::write(&gateway.file, cut).unwrap();
        gateway.signal(Signal::HUP);
        let line = gateway.until_log("the old configuration stays");
        assert!(line.contains("set `allow-empty = true`"), "{line}");
        assert!(gateway.talk("tls", HELLO).ends_with(b"a"));
    }
    std::fs::write(&gateway.file, ["allow-empty = true\n", &listeners].concat()).unwrap();
    gateway.signal(Signal::HUP);
    gateway.until_log("reloaded");
    while gateway.talk("tls", HELLO).ends_with(b"a") {}
}

#[test]
fn a_listener_that_changes_its_address_and_keeps_its_port_is_handed_over() {
    let a = Backend::new();
    let address = a.address();
    a.echo_name("a");
    let port = closed().port();
    let text = |host: &str| {
        let listener = format!("[[listener]]\naddress = \"{host}:{port}\"\nkind = \"tls\"\n");
        [listener, route("www.a.test", &[address], "")].concat()
    };
    let gateway = start(&text("0.0.0.0"));
    for host in ["127.0.0.1", "0.0.0.0"] {
        std::fs::write(&gateway.file, text(host)).unwrap();
        gateway.signal(Signal::HUP);
        gateway.until_log("reloaded");
        let mut client = TcpStream::connect(("127.0.0.1", port)).unwrap();
        client.write_all(HELLO).unwrap();
        assert!(support::rest(client).ends_with(b"a"), "{host}");
    }
    // The sockets share the port only during the change.
    assert!(std::net::TcpListener::bind(("127.0.0.1", port)).is_err());
}

#[test]
fn a_copy_with_equal_size_and_time_is_noticed() {
    let (a, b) = (Backend::new(), Backend::new());
    let text = |backend: &Backend| config("", &route("www.a.test", &[backend.address()], ""));
    let (one, two) = (text(&a), text(&b));
    a.echo_name("a");
    b.echo_name("b");
    let gateway = start(&one);
    let time = std::fs::metadata(&gateway.file).unwrap().modified().unwrap();
    std::fs::write(&gateway.file, two).unwrap();
    std::fs::File::options().write(true).open(&gateway.file).unwrap().set_modified(time).unwrap();
    gateway.until_log("reloaded");
    while !gateway.talk("tls", HELLO).ends_with(b"b") {}
}

#[test]
fn a_change_of_the_file_is_noticed() {
    let a = Backend::new();
    let address = a.address();
    a.echo_name("a");
    let gateway = start(&config("", &route("other.test", &[address], "")));
    std::fs::write(&gateway.file, config("", &route("www.a.test", &[address], ""))).unwrap();
    gateway.until_log("reloaded");
    while !gateway.talk("tls", HELLO).ends_with(b"a") {}
}

#[test]
fn a_large_file_holds_up_no_probe() {
    let gateway = start_with(&config("", &route("a.test", &[closed()], "")), &OPS);
    let backend = [SocketAddr::from(([10, 0, 0, 1], 1))];
    let routes: String =
        (0..30_000).map(|number| route(&format!("r{number}.test"), &backend, "")).collect();
    std::fs::write(&gateway.file, config("", &routes)).unwrap();
    gateway.signal(Signal::HUP);
    let mut answers = 0;
    while gateway.metric("kiln_gateway_reloads_total") == 0 {
        answers += 1;
    }
    assert!(answers > 3, "{answers} answers while the file was read");
}

#[test]
fn connections_above_a_cap_are_closed() {
    let gateway =
        start_with(&config("max-connections = 3", &route("a.test", &[closed()], "")), &OPS);
    let held: Vec<TcpStream> = (0..3).map(|_| gateway.connect("tls")).collect();
    gateway.until_metric("kiln_gateway_connections", 3);
    assert_eq!(gateway.talk("tls", b""), b"");
    drop(held);
    gateway.until_metric("kiln_gateway_connections", 0);
    assert!(gateway.talk("tls", HELLO).starts_with(&[21]));
    let gateway = start_with(
        &config("max-connections-per-address = 1", &route("a.test", &[closed()], "")),
        &OPS,
    );
    let held = gateway.connect("http");
    gateway.until_metric("kiln_gateway_connections", 1);
    assert_eq!(gateway.ask(""), "");
    drop(held);
    gateway.until_metric("kiln_gateway_connections", 0);
    assert!(gateway.ask(&get("x.test")).starts_with("HTTP/1.1 404 "));
}

#[test]
fn a_backend_that_fails_its_checks_is_skipped() {
    let (down, up) = (Backend::new(), Backend::new());
    let addresses = [down.address(), up.address()];
    up.echo_name("up");
    let check =
        "check = { kind = \"http\", path = \"/health\", interval = 0.05, rise = 1, fall = 2 }";
    std::thread::spawn(move || {
        loop {
            let mut stream = down.accept();
            let head = support::read_to(&mut stream, "\r\n\r\n");
            let status = if head.starts_with("GET /health ") { "500 Oops" } else { "200 OK" };
            let _ = stream.write_all(
                format!("HTTP/1.1 {status}\r\nConnection: close\r\n\r\ndown").as_bytes(),
            );
        }
    });
    let gateway = start(&config("", &route("a.test", &addresses, check)));
    gateway.until_log("is down");
    assert!(gateway.ask(&get("a.test")).ends_with("up"));
}

#[test]
fn a_second_gateway_on_a_port_fails() {
    let gateway = start(&config("", &route("a.test", &[closed()], "")));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("gateway.toml");
    let address = gateway.address("tls");
    std::fs::write(&file, format!("[[listener]]\naddress = \"{address}\"\nkind = \"tls\"\n"))
        .unwrap();
    let output = command().arg(&file).output().unwrap();
    let log = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(75), "{log}");
    assert!(log.contains(&format!("cannot listen on {address}")), "{log}");
}

#[test]
fn check_and_routes_describe_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("servers.toml");
    let run = |text: &str, args: &[&str]| {
        std::fs::write(&file, text).unwrap();
        let output = command().arg(args[0]).arg(&file).args(&args[1..]).output().unwrap();
        let all = [output.stdout, output.stderr].concat();
        (output.status.code().unwrap(), String::from_utf8(all).unwrap())
    };
    let good = "[https_backends]\n\"a.test\" = \"10.0.0.1:443\"\n";
    assert_eq!(run(good, &["check"]).0, 0);
    let (code, text) = run("[https_backends]\n\"a.test\" = \"nowhere\"\n", &["check"]);
    assert!(
        code == 1 && text.contains("servers.toml:2: `https_backends`: `nowhere` is not a backend"),
        "{text}"
    );
    let (code, text) = run(good, &["routes", "A.test"]);
    assert!(
        code == 0 && text.contains("https: 10.0.0.1:443") && text.contains("http: no route"),
        "{text}"
    );
    assert_eq!(run(good, &["routes", "b.test"]).0, 1);
}

#[test]
fn the_access_log_is_json_with_the_reason_for_the_end() {
    let mut gateway = start_with(&config("", &route("a.test", &[closed()], "")), &["--access-log"]);
    let lines = gateway.output();
    gateway.ask(&get("unknown.test"));
    let line = lines.recv_timeout(DEADLINE).unwrap();
    assert!(line.starts_with("{\"time\":\"20") && line.ends_with('}'), "{line}");
    assert!(
        line.contains("\"name\":\"unknown.test\"") && line.contains("\"end\":\"unknown-name\""),
        "{line}"
    );
}
