//! Reload, end, limits, DNS and checks of the program itself.

#![expect(clippy::unwrap_used, reason = "all of this is test code")]
#![allow(dead_code, reason = "the tests share their support")]

mod support;

use std::io::{Read as _, Write as _};
use std::net::{TcpStream, UdpSocket};
use std::time::Instant;

use rustix::process::{Resource, Rlimit, Signal, prlimit};
use support::{
    Backend, DEADLINE, HELLO, command, config, expect, get, nobody, rest, route, start, start_with,
};

const OPS: [&str; 2] = ["--ops-addr", "127.0.0.1:0"];

#[test]
fn a_hundred_reloads_under_load_touch_no_connection() {
    let (old, new) = (Backend::new(), Backend::new());
    let configs = [
        config("", &route("www.a.test", &[old.address()], "")),
        config("", &route("www.a.test", &[new.address()], "")),
    ];
    let gateway = start_with(&configs[0], &OPS);
    let mut live = gateway.connect("tls");
    live.write_all(HELLO).unwrap();
    let mut server = old.accept();
    expect(&mut server, HELLO);
    old.echo_name("old");
    new.echo_name("new");
    for round in 1..=100 {
        std::fs::write(&gateway.file, &configs[round % 2]).unwrap();
        gateway.signal(Signal::HUP);
        gateway.wait_for("reloaded");
        server.write_all(b"x").unwrap();
        expect(&mut live, b"x");
        // Workers hear of a reload a moment after it is logged; no connection fails meanwhile.
        let answer = gateway.talk("tls", HELLO);
        assert!(answer.ends_with(b"old") || answer.ends_with(b"new"), "{answer:?}");
    }
    assert_eq!(gateway.metric("kiln_gateway_reloads_total"), 100);
}

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
        let line = gateway.wait_for("the old configuration stays");
        assert!(line.contains("gateway.toml:"), "{line}");
        assert!(gateway.talk("tls", HELLO).ends_with(b"a"));
    }
    assert!(gateway.metric("kiln_gateway_refused_reloads_total") >= 3);
}

#[test]
fn a_change_of_the_file_is_noticed() {
    let a = Backend::new();
    let address = a.address();
    a.echo_name("a");
    let gateway = start(&config("", &route("other.test", &[address], "")));
    std::fs::write(&gateway.file, config("", &route("www.a.test", &[address], ""))).unwrap();
    gateway.wait_for("reloaded");
    while !gateway.talk("tls", HELLO).ends_with(b"a") {}
}

#[test]
fn sigterm_lets_live_connections_end_and_nobody_new_in() {
    let a = Backend::new();
    let mut gateway = start_with(&config("", &route("www.a.test", &[a.address()], "")), &OPS);
    let mut client = gateway.connect("tls");
    client.write_all(HELLO).unwrap();
    let mut server = a.accept();
    expect(&mut server, HELLO);
    let address = gateway.address("tls");
    gateway.signal(Signal::TERM);
    gateway.wait_for("ending");
    while TcpStream::connect(address).is_ok() {}
    server.write_all(b"still").unwrap();
    expect(&mut client, b"still");
    assert!(gateway.talk("ops", b"GET /ready HTTP/1.1\r\n\r\n").starts_with(b"HTTP/1.1 503 "));
    drop((client, server));
    assert_eq!(gateway.child.wait().unwrap().code(), Some(0));
}

#[test]
fn sigterm_ends_idle_http_connections_at_once() {
    let a = Backend::new();
    let mut gateway = start(&config("", &route("a.test", &[a.address()], "")));
    let mut client = gateway.connect("http");
    client.write_all(get("a.test").as_bytes()).unwrap();
    let mut server = a.accept();
    expect(&mut server, get("a.test").as_bytes());
    let answer = b"HTTP/1.1 204 No Content\r\n\r\n";
    server.write_all(answer).unwrap();
    expect(&mut client, answer);
    let begun = Instant::now();
    gateway.signal(Signal::TERM);
    assert_eq!(rest(client), b"");
    assert_eq!(gateway.child.wait().unwrap().code(), Some(0));
    assert!(begun.elapsed() < DEADLINE);
}

#[test]
fn those_who_take_all_descriptors_keep_others_out_only_while_they_are_there() {
    let a = Backend::new();
    let address = a.address();
    a.echo_name("a");
    let gateway = start_with(&config("", &route("www.a.test", &[address], "")), &OPS);
    let used = u64::try_from(gateway.descriptors().len()).unwrap();
    // The gateway has counted on more at its start, so accept(2) fails now.
    let few = Rlimit { current: Some(used + 6), maximum: Some(used + 6) };
    prlimit(Some(gateway.pid()), Resource::Nofile, few).unwrap();
    let held: Vec<TcpStream> = (0..50).map(|_| gateway.connect("tls")).collect();
    let line = gateway.wait_for("no new connections for a while");
    assert!(line.contains("descriptors"), "{line}");
    drop(held);
    assert!(gateway.talk("tls", HELLO).ends_with(b"a"));
    let said = gateway.log.try_iter().filter(|line| line.contains("no new connections")).count();
    assert!(said <= 30, "{said} lines");
}

#[test]
fn twenty_thousand_connections_leave_nothing_behind() {
    let a = Backend::new();
    let address = a.address();
    a.echo_name("a");
    let gateway = start_with(&config("", &route("www.a.test", &[address], "")), &OPS);
    assert!(gateway.talk("tls", HELLO).ends_with(b"a"));
    let before = gateway.descriptors().len();
    for round in 0..100 {
        let clients: Vec<TcpStream> = (0..200).map(|_| gateway.connect("tls")).collect();
        for mut client in clients.iter().take(round) {
            let _ = client.write_all(&HELLO[..round.min(HELLO.len())]);
        }
    }
    gateway.until_metric("kiln_gateway_connections", 0);
    assert!(gateway.talk("tls", HELLO).ends_with(b"a"));
    gateway.until_metric("kiln_gateway_connections", 0);
    let after = gateway.descriptors().len();
    assert!(after <= before + 10, "{before} descriptors before, {after} after");
    let status = std::fs::read_to_string(format!("/proc/{}/status", gateway.child.id())).unwrap();
    let resident = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    let kib: u64 = resident.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(kib < 4096, "{kib} KiB of memory of its own");
}

#[test]
fn caps_close_what_is_above_them() {
    let gateway =
        start_with(&config("max-connections = 3", &route("a.test", &[nobody()], "")), &OPS);
    let held: Vec<TcpStream> = (0..3).map(|_| gateway.connect("tls")).collect();
    gateway.until_metric("kiln_gateway_connections", 3);
    assert_eq!(gateway.talk("tls", b""), b"");
    drop(held);
    gateway.until_metric("kiln_gateway_connections", 0);
    assert!(gateway.talk("tls", HELLO).starts_with(&[21]));
    let gateway = start_with(
        &config("max-connections-per-address = 1", &route("a.test", &[nobody()], "")),
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
fn a_backend_that_fails_its_checks_is_passed_over() {
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
    gateway.wait_for("is down");
    assert!(gateway.ask(&get("a.test")).ends_with("up"));
}

/// A name server that answers every question for an A record with this address.
fn name_server(address: [u8; 4], truncated: bool, lies: bool) -> std::net::SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let here = socket.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut buffer = [0; 1500];
        while let Ok((count, from)) = socket.recv_from(&mut buffer) {
            let reply = dns_reply(&buffer[..count], address, truncated);
            if lies {
                let mut wrong = reply.clone();
                wrong[0] ^= 0xff;
                socket.send_to(&wrong, from).unwrap();
                socket.send_to(b"nonsense", from).unwrap();
                socket.send_to(&buffer[..count], from).unwrap();
            }
            socket.send_to(&reply, from).unwrap();
        }
    });
    if truncated {
        let tcp = std::net::TcpListener::bind(here).unwrap();
        std::thread::spawn(move || {
            while let Ok((mut stream, _)) = tcp.accept() {
                let mut length = [0; 2];
                stream.read_exact(&mut length).unwrap();
                let mut question = vec![0; usize::from(u16::from_be_bytes(length))];
                stream.read_exact(&mut question).unwrap();
                let reply = dns_reply(&question, address, false);
                let length = u16::try_from(reply.len()).unwrap().to_be_bytes();
                // In two pieces, as TCP may deliver it.
                stream.write_all(&length).unwrap();
                stream.write_all(&reply).unwrap();
            }
        });
    }
    here
}

/// An answer to an A question, an empty one to any other.
fn dns_reply(question: &[u8], address: [u8; 4], truncated: bool) -> Vec<u8> {
    let end = question.len() - 11;
    let is_a = question[end - 4..end] == [0, 1, 0, 1];
    let mut reply = question[..end].to_vec();
    reply[2] |= 0x80 | if truncated { 2 } else { 0 };
    reply[7] = u8::from(is_a && !truncated);
    reply[11] = 0;
    if is_a && !truncated {
        reply.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4]);
        reply.extend(address);
    }
    reply
}

fn with_dns(server: std::net::SocketAddr, backend: &str) -> (support::Gateway, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("resolv.conf");
    std::fs::write(&file, format!("nameserver [{}]:{}\n", server.ip(), server.port())).unwrap();
    let routes = format!("[[route]]\nnames = [\"a.test\"]\nbackends = [\"{backend}\"]\n");
    let gateway = start_with(&config("", &routes), &["--resolv-conf", file.to_str().unwrap()]);
    (gateway, folder)
}

#[test]
fn a_backends_name_is_resolved_whatever_else_comes() {
    for (truncated, lies) in [(false, false), (false, true), (true, false)] {
        let a = Backend::new();
        let port = a.address().port();
        a.echo_name("found");
        let server = name_server([127, 0, 0, 1], truncated, lies);
        let (gateway, _folder) = with_dns(server, &format!("backend.b.test:{port}"));
        assert!(
            gateway.ask(&get("a.test")).ends_with("found"),
            "truncated {truncated}, lies {lies}"
        );
    }
}

#[test]
fn a_name_server_that_is_silent_holds_up_nobody_else() {
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let a = Backend::new();
    let address = a.address();
    a.echo_name("a");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("resolv.conf");
    let server = silent.local_addr().unwrap();
    std::fs::write(&file, format!("nameserver [{}]:{}\n", server.ip(), server.port())).unwrap();
    let routes = [
        "[[route]]\nnames = [\"slow.test\"]\nbackends = [\"x.y.test:80\"]\n",
        &route("a.test", &[address], ""),
    ]
    .concat();
    let gateway = start_with(
        &config("connect-timeout = 0.5", &routes),
        &["--resolv-conf", file.to_str().unwrap()],
    );
    let mut slow = gateway.connect("http");
    slow.write_all(get("slow.test").as_bytes()).unwrap();
    assert!(gateway.ask(&get("a.test")).ends_with('a'));
    assert!(rest(slow).starts_with(b"HTTP/1.1 502 "));
}

#[test]
fn a_name_that_leads_to_the_gateway_itself_is_not_used() {
    let server = name_server([127, 0, 0, 1], false, false);
    let port = Backend::new().address().port();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("resolv.conf");
    std::fs::write(&file, format!("nameserver [{}]:{}\n", server.ip(), server.port())).unwrap();
    let text = format!(
        "[[listener]]\nname = \"http\"\naddress = \"127.0.0.1:{port}\"\nkind = \"http\"\n\
         [[route]]\nnames = [\"a.test\"]\nbackends = [\"me.b.test:{port}\"]\n"
    );
    let gateway = start_with(&text, &["--resolv-conf", file.to_str().unwrap()]);
    assert!(gateway.ask(&get("a.test")).starts_with("HTTP/1.1 502 "));
    gateway.wait_for("is a listener of this gateway");
}

#[test]
fn a_second_gateway_on_a_port_fails() {
    let gateway = start(&config("", &route("a.test", &[nobody()], "")));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("gateway.toml");
    let address = gateway.address("tls");
    std::fs::write(&file, format!("[[listener]]\naddress = \"{address}\"\nkind = \"tls\"\n"))
        .unwrap();
    let output = command().arg(&file).output().unwrap();
    let log = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(75), "{log}");
    assert!(log.contains(&format!("listening on {address}")), "{log}");
}

#[test]
fn check_and_routes_say_what_a_file_means() {
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
    assert!(code == 1 && text.contains("servers.toml:2: `nowhere` is not a backend"), "{text}");
    let (code, text) = run(good, &["routes", "A.test"]);
    assert!(
        code == 0 && text.contains("https: 10.0.0.1:443") && text.contains("http: nobody"),
        "{text}"
    );
    assert_eq!(run(good, &["routes", "b.test"]).0, 1);
}

#[test]
fn the_access_log_is_json_with_the_reason_of_the_end() {
    let mut gateway = start_with(&config("", &route("a.test", &[nobody()], "")), &["--access-log"]);
    let mut lines =
        std::io::BufRead::lines(std::io::BufReader::new(gateway.child.stdout.take().unwrap()));
    gateway.ask(&get("nobody.test"));
    let line = lines.next().unwrap().unwrap();
    assert!(line.starts_with("{\"time\":\"20") && line.ends_with('}'), "{line}");
    assert!(
        line.contains("\"name\":\"nobody.test\"") && line.contains("\"end\":\"unknown-name\""),
        "{line}"
    );
}
