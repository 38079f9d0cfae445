//! Backends with names: the gateway's resolver with a name server on loopback.

#![expect(clippy::unwrap_used, reason = "all of this is test code")]
#![allow(dead_code, reason = "the tests share their support")]

mod support;

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::{Arc, Mutex};

use rustix::fd::OwnedFd;
use rustix::net::{
    AddressFamily, SocketFlags, SocketType, bind, connect, listen, socket, socket_with,
};
use support::{
    Backend, OPS, asked_before_sigterm, config, get, last_response, rest, route, start_with,
};

/// The behaviour of a name server.
#[derive(Clone, Copy, Default)]
struct Manner {
    /// Responses over UDP are truncated.
    truncated: bool,
    /// Invalid messages arrive before the response.
    forged: bool,
}

/// Opens one port for UDP and TCP.
fn both_sockets() -> (UdpSocket, TcpListener) {
    loop {
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        // Another process may already have the port.
        if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()) {
            return (udp, tcp);
        }
    }
}

/// Starts a name server that responds to every question for an A record with this address.
fn name_server(address: Arc<Mutex<[u8; 4]>>, manner: Manner) -> SocketAddr {
    let (udp, tcp) = both_sockets();
    let here = udp.local_addr().unwrap();
    let same = Arc::clone(&address);
    std::thread::spawn(move || over_tcp(&tcp, &same));
    std::thread::spawn(move || over_udp(&udp, &address, manner));
    here
}

fn over_udp(socket: &UdpSocket, address: &Mutex<[u8; 4]>, manner: Manner) {
    let mut buffer = [0; 1500];
    while let Ok((count, from)) = socket.recv_from(&mut buffer) {
        let reply = dns_reply(&buffer[..count], *address.lock().unwrap(), manner.truncated);
        if manner.forged {
            let mut wrong = reply.clone();
            wrong[0] ^= 0xff;
            socket.send_to(&wrong, from).unwrap();
            socket.send_to(b"nonsense", from).unwrap();
            socket.send_to(&buffer[..count], from).unwrap();
        }
        socket.send_to(&reply, from).unwrap();
    }
}

fn over_tcp(listener: &TcpListener, address: &Mutex<[u8; 4]>) {
    while let Ok((mut stream, _)) = listener.accept() {
        let mut length = [0; 2];
        stream.read_exact(&mut length).unwrap();
        let mut question = vec![0; usize::from(u16::from_be_bytes(length))];
        stream.read_exact(&mut question).unwrap();
        let reply = dns_reply(&question, *address.lock().unwrap(), false);
        let length = u16::try_from(reply.len()).unwrap().to_be_bytes();
        // In two pieces, as TCP may deliver it.
        stream.write_all(&length).unwrap();
        stream.write_all(&reply).unwrap();
    }
}

fn fixed() -> Arc<Mutex<[u8; 4]>> {
    Arc::new(Mutex::new([127, 0, 0, 1]))
}

/// A response to a question for an A record; an empty one to any other question.
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

fn with_dns(server: SocketAddr, backend: &str) -> (support::Gateway, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("resolv.conf");
    std::fs::write(&file, format!("nameserver [{}]:{}\n", server.ip(), server.port())).unwrap();
    let routes = format!("[[route]]\nnames = [\"a.test\"]\nbackends = [\"{backend}\"]\n");
    let gateway = start_with(
        &config("", &routes),
        &[OPS[0], OPS[1], "--resolv-conf", file.to_str().unwrap()],
    );
    (gateway, folder)
}

#[test]
fn a_backend_is_resolved_even_among_forged_responses() {
    for (truncated, forged) in [(false, false), (false, true), (true, false)] {
        let a = Backend::new();
        let port = a.address().port();
        a.echo_name("found");
        let server = name_server(fixed(), Manner { truncated, forged });
        let (gateway, _folder) = with_dns(server, &format!("backend.b.test:{port}"));
        assert!(
            gateway.ask(&get("a.test")).ends_with("found"),
            "truncated {truncated}, forged {forged}"
        );
    }
}

/// Opens a socket that drops connection attempts, because its queue is full.
fn dead(address: SocketAddr) -> Option<(OwnedFd, Vec<OwnedFd>)> {
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    bind(&socket, &address).ok()?;
    listen(&socket, 0).unwrap();
    let flags = SocketFlags::NONBLOCK;
    let fill = || {
        let client = socket_with(AddressFamily::INET, SocketType::STREAM, flags, None).unwrap();
        let _ = connect(&client, &address);
        client
    };
    Some((socket, (0..3).map(|_| fill()).collect()))
}

#[test]
fn dead_addresses_of_a_name_do_not_hide_a_working_one() {
    const DEAD: u8 = 30;
    let a = Backend::new();
    let port = a.address().port();
    a.echo_name("alive");
    let address = |last| SocketAddr::new([127, 0, 1, last].into(), port);
    let held: Vec<_> = (1..=DEAD).filter_map(|last| dead(address(last))).collect();
    let folder = tempfile::tempdir().unwrap();
    let hosts = folder.path().join("hosts");
    let lines = (1..=DEAD).map(|last| format!("127.0.1.{last} many.test\n"));
    let text: Vec<String> = lines.chain(["127.0.0.1 many.test\n".to_owned()]).collect();
    std::fs::write(&hosts, text.concat()).unwrap();
    let routes = format!("[[route]]\nnames = [\"a.test\"]\nbackends = [\"many.test:{port}\"]\n");
    let gateway =
        start_with(&config("connect-timeout = 3", &routes), &["--hosts", hosts.to_str().unwrap()]);
    assert!(gateway.ask(&get("a.test")).ends_with("alive"), "{} are dead", held.len());
    // The working address is remembered, so that a second connection needs no time to speak of.
    let start = std::time::Instant::now();
    assert!(gateway.ask(&get("a.test")).ends_with("alive"));
    assert!(start.elapsed() < std::time::Duration::from_secs(1), "{:?}", start.elapsed());
}

#[test]
fn a_family_that_is_never_answered_holds_up_no_client() {
    let a = Backend::new();
    let port = a.address().port();
    a.echo_name("found");
    let dns = UdpSocket::bind("127.0.0.1:0").unwrap();
    let server = dns.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut buffer = [0; 1500];
        while let Ok((count, from)) = dns.recv_from(&mut buffer) {
            let question = &buffer[..count];
            let end = count - 11;
            if question[end - 4..end] == [0, 1, 0, 1] {
                dns.send_to(&dns_reply(question, [127, 0, 0, 1], false), from).unwrap();
            }
        }
    });
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("resolv.conf");
    let text = format!("nameserver [{}]:{}\noptions timeout:30\n", server.ip(), server.port());
    std::fs::write(&file, text).unwrap();
    let routes =
        format!("[[route]]\nnames = [\"a.test\"]\nbackends = [\"backend.b.test:{port}\"]\n");
    let gateway = start_with(
        &config("connect-timeout = 20", &routes),
        &["--resolv-conf", file.to_str().unwrap()],
    );
    let start = std::time::Instant::now();
    assert!(gateway.ask(&get("a.test")).ends_with("found"));
    assert!(start.elapsed() < std::time::Duration::from_secs(10), "{:?}", start.elapsed());
}

#[test]
fn a_silent_name_server_holds_up_no_other_backend() {
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
    let server = name_server(fixed(), Manner::default());
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
    gateway.until_log("is a listener of this gateway");
}

/// Opens two backends with the same port on two addresses.
fn twins() -> [(Backend, [u8; 4]); 2] {
    loop {
        let one = Backend::new();
        let other = SocketAddr::new([127, 0, 0, 2].into(), one.address().port());
        // Another process may already have the port.
        if let Ok(two) = Backend::on(other) {
            return [(one, [127, 0, 0, 1]), (two, [127, 0, 0, 2])];
        }
    }
}

#[test]
fn a_name_that_moves_is_followed() {
    let [(one, first), (two, second)] = twins();
    let port = one.address().port();
    one.echo_name("one");
    two.echo_name("two");
    let address = Arc::new(Mutex::new(first));
    let server = name_server(Arc::clone(&address), Manner::default());
    let (gateway, _folder) = with_dns(server, &format!("backend.b.test:{port}"));
    assert!(gateway.ask(&get("a.test")).ends_with("one"));
    *address.lock().unwrap() = second;
    // The response is valid for a second, and no request fails in the meantime.
    loop {
        let answer = gateway.ask(&get("a.test"));
        if answer.ends_with("two") {
            break;
        }
        assert!(answer.ends_with("one"), "{answer}");
    }
}

#[test]
fn after_sigterm_a_name_that_is_being_resolved_still_leads_to_a_response() {
    let dns = UdpSocket::bind("127.0.0.1:0").unwrap();
    let a = Backend::new();
    let name = format!("backend.b.test:{}", a.address().port());
    let (mut gateway, _folder) = with_dns(dns.local_addr().unwrap(), &name);
    let client = asked_before_sigterm(&gateway);
    std::thread::spawn(move || over_udp(&dns, &fixed(), Manner::default()));
    last_response(&a, client);
    assert!(
        gateway.until_log("ended").contains("cut=0"),
        "the gateway ends as soon as no connection is open"
    );
    assert_eq!(gateway.wait(), Some(0));
}
