//! Backends with names: the gateway's own resolver against a name server on loopback.

#![expect(clippy::unwrap_used, reason = "all of this is test code")]
#![allow(dead_code, reason = "the tests share their support")]

mod support;

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::{Arc, Mutex};

use support::{
    Backend, OPS, asked_before_sigterm, config, get, last_answer, rest, route, start_with,
};

/// What a name server says.
#[derive(Clone, Copy, Default)]
struct Manner {
    /// Over UDP nothing fits.
    truncated: bool,
    /// Before the answer come others that are none.
    lies: bool,
}

/// One port for UDP and TCP.
fn both_sockets() -> (UdpSocket, TcpListener) {
    loop {
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        // Somebody may have the port there already.
        if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()) {
            return (udp, tcp);
        }
    }
}

/// A name server that answers every question for an A record with the address that stands there.
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
        if manner.lies {
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
fn a_backends_name_is_resolved_whatever_else_comes() {
    for (truncated, lies) in [(false, false), (false, true), (true, false)] {
        let a = Backend::new();
        let port = a.address().port();
        a.echo_name("found");
        let server = name_server(fixed(), Manner { truncated, lies });
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
    gateway.wait_for("is a listener of this gateway");
}

/// Two backends on one port of two addresses.
fn twins() -> [(Backend, [u8; 4]); 2] {
    loop {
        let one = Backend::new();
        let other = SocketAddr::new([127, 0, 0, 2].into(), one.address().port());
        // Somebody may have the port there already.
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
    // The answer holds for a second, and no request fails meanwhile.
    loop {
        let answer = gateway.ask(&get("a.test"));
        if answer.ends_with("two") {
            break;
        }
        assert!(answer.ends_with("one"), "{answer}");
    }
}

#[test]
fn sigterm_while_a_name_is_being_resolved_makes_its_answer_the_last() {
    let dns = UdpSocket::bind("127.0.0.1:0").unwrap();
    let a = Backend::new();
    let name = format!("backend.b.test:{}", a.address().port());
    let (mut gateway, _folder) = with_dns(dns.local_addr().unwrap(), &name);
    let client = asked_before_sigterm(&gateway);
    std::thread::spawn(move || over_udp(&dns, &fixed(), Manner::default()));
    last_answer(&a, client);
    assert!(gateway.wait_for("ended").contains("cut=0"), "it did not wait for its last moment");
    assert_eq!(gateway.child.wait().unwrap().code(), Some(0));
}
