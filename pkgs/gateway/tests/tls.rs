//! TLS through the program, over loopback, on ports that the kernel chooses.

#![expect(clippy::unwrap_used, reason = "all of this is test code")]
#![allow(dead_code, reason = "the tests share their support")]

mod support;

use std::io::{Read as _, Write as _};
use std::net::Shutdown;

use support::{Backend, HELLO, closed, config, ended, expect, rest, route, start, start_with};

const ALERT: &[u8] = &[21, 3, 3, 0, 2, 2, 112];

/// The hello with another name of the same length.
fn hello_for(name: &str) -> Vec<u8> {
    let at = HELLO.windows(10).position(|window| window == b"www.a.test").unwrap();
    let mut bytes = HELLO.to_vec();
    bytes[at..at + 10].copy_from_slice(name.as_bytes());
    bytes
}

#[test]
fn a_hello_reaches_the_backend_of_its_name_unchanged() {
    let (a, b) = (Backend::new(), Backend::new());
    let routes =
        [route("www.a.test", &[a.address()], ""), route("*.b.test", &[b.address()], "")].concat();
    let gateway = start(&config("", &routes));
    for (name, backend) in [("www.a.test", &a), ("WWW.A.TEST", &a), ("www.b.test", &b)] {
        let hello = hello_for(name);
        let mut client = gateway.connect("tls");
        client.write_all(&hello).unwrap();
        let mut server = backend.accept();
        let mut got = vec![0; hello.len()];
        server.read_exact(&mut got).unwrap();
        assert_eq!(got, hello);
        server.write_all(b"server").unwrap();
        expect(&mut client, b"server");
        client.write_all(b"client").unwrap();
        expect(&mut server, b"client");
        client.shutdown(Shutdown::Write).unwrap();
        assert_eq!(rest(server.try_clone().unwrap()), b"");
        server.write_all(b"after the client's end").unwrap();
        drop(server);
        assert_eq!(rest(client), b"after the client's end");
    }
}

#[test]
fn a_hello_may_arrive_byte_by_byte_and_in_many_records() {
    let backend = Backend::new();
    let gateway = start(&config("", &route("www.a.test", &[backend.address()], "")));
    let mut cases = vec![HELLO.to_vec()];
    for count in [9, 16] {
        let message = &HELLO[5..];
        let records = message.chunks(message.len().div_ceil(count));
        let records = records.flat_map(|part| {
            [&[22, 3, 1][..], &u16::try_from(part.len()).unwrap().to_be_bytes(), part].concat()
        });
        cases.push(records.collect());
    }
    for bytes in cases {
        let mut client = gateway.connect("tls");
        for byte in &bytes {
            client.write_all(&[*byte]).unwrap();
        }
        let mut server = backend.accept();
        let mut got = vec![0; bytes.len()];
        server.read_exact(&mut got).unwrap();
        assert_eq!(got, bytes);
    }
}

#[test]
fn a_hello_that_is_cut_anywhere_waits_for_the_rest() {
    // All cuts at the same time, each with its own client.
    let backend = Backend::new();
    let address = backend.address();
    backend.echo_name("whole");
    let gateway = start(&config("", &route("www.a.test", &[address], "")));
    let mut clients: Vec<_> = (1..HELLO.len())
        .step_by(3)
        .map(|cut| {
            let mut client = gateway.connect("tls");
            client.write_all(&HELLO[..cut]).unwrap();
            (cut, client)
        })
        .collect();
    for (cut, client) in &mut clients {
        client.write_all(&HELLO[*cut..]).unwrap();
    }
    for (cut, client) in clients {
        assert!(rest(client).ends_with(b"whole"), "cut at {cut}");
    }
}

#[test]
fn an_unknown_name_gets_an_alert_and_plain_http_an_answer() {
    let gateway = start(&config("", &route("other.test", &[closed()], "")));
    assert_eq!(gateway.talk("tls", HELLO), ALERT, "an unknown name");
    let text =
        String::from_utf8(gateway.talk("tls", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")).unwrap();
    assert!(
        text.starts_with("HTTP/1.1 400 Bad Request\r\n") && text.contains("speaks TLS"),
        "{text}"
    );
    for garbage in
        [&b"SSH-2.0-x\r\n"[..], b"\0\0\0\0", b"\x16\x03\x01\xff\xff", b"\x80\x2e\x01\x03\x01"]
    {
        assert_eq!(gateway.talk("tls", garbage), b"", "{garbage:?}");
    }
}

#[test]
fn a_client_without_a_name_gets_the_default_route_or_an_alert() {
    // The server_name extension with an unknown number.
    let mut nameless = HELLO.to_vec();
    let at = nameless.windows(10).position(|window| window == b"www.a.test").unwrap();
    nameless[at - 9..at - 7].copy_from_slice(&[0xfa, 0xfa]);
    let gateway = start(&config("", &route("www.a.test", &[closed()], "")));
    assert_eq!(gateway.talk("tls", &nameless), ALERT);
    let backend = Backend::new();
    let default = format!("[[route]]\ndefault = true\nbackends = [\"{}\"]\n", backend.address());
    let gateway = start(&config("", &default));
    let mut client = gateway.connect("tls");
    client.write_all(&nameless).unwrap();
    let mut got = vec![0; nameless.len()];
    backend.accept().read_exact(&mut got).unwrap();
    assert_eq!(got, nameless);
}

#[test]
fn an_invalid_name_is_treated_like_an_unknown_one() {
    // The name of ten bytes becomes an IPv6 address of ten bytes.
    let mut hello = HELLO.to_vec();
    let at = hello.windows(10).position(|window| window == b"www.a.test").unwrap();
    hello[at..at + 10].copy_from_slice(b"fe80::1:22");
    let gateway = start(&config("", &route("www.a.test", &[closed()], "")));
    assert_eq!(gateway.talk("tls", &hello), ALERT);
    let backend = Backend::new();
    let default = format!("[[route]]\ndefault = true\nbackends = [\"{}\"]\n", backend.address());
    let gateway = start(&config("", &default));
    let mut client = gateway.connect("tls");
    client.write_all(&hello).unwrap();
    expect(&mut backend.accept(), &hello);
}

#[test]
fn a_protocol_can_have_its_own_backend() {
    let (usual, special) = (Backend::new(), Backend::new());
    let routes = [
        route("www.a.test", &[usual.address()], ""),
        route("www.a.test", &[special.address()], "alpn = [\"h2\"]"),
    ]
    .concat();
    let gateway = start(&config("", &routes));
    let mut client = gateway.connect("tls");
    client.write_all(HELLO).unwrap();
    special.accept();
    assert!(usual.is_alone());
}

#[test]
fn a_hello_is_sent_to_the_next_backend_until_one_responds() {
    let (first, second) = (Backend::new(), Backend::new());
    let backends = [closed(), first.address(), second.address()];
    let gateway = start(&config("", &route("www.a.test", &backends, "")));
    let mut client = gateway.connect("tls");
    client.write_all(HELLO).unwrap();
    drop(first.accept());
    let mut server = second.accept();
    let mut got = vec![0; HELLO.len()];
    server.read_exact(&mut got).unwrap();
    assert_eq!(got, HELLO);
    server.write_all(b"answer").unwrap();
    expect(&mut client, b"answer");
    drop(server);
    assert_eq!(rest(client), b"");
    assert!(first.is_alone(), "after a response no other backend is tried");
}

#[test]
fn a_client_gets_an_alert_if_all_backends_are_dead() {
    let gateway = start(&config("", &route("www.a.test", &[closed(), closed()], "")));
    assert_eq!(gateway.talk("tls", HELLO), [21, 3, 3, 0, 2, 2, 80]);
}

#[test]
fn large_data_is_relayed_in_both_directions_and_no_pipe_stays() {
    let backend = Backend::new();
    let gateway = start_with(
        &config("", &route("www.a.test", &[backend.address()], "")),
        &["--workers", "1"],
    );
    let mut client = gateway.connect("tls");
    client.write_all(HELLO).unwrap();
    let mut server = backend.accept();
    expect(&mut server, HELLO);
    let data: Vec<u8> = (0..48_u32 << 20)
        .map(|index| u8::try_from(index.wrapping_mul(2_654_435_761) >> 24).unwrap())
        .collect();
    std::thread::scope(|scope| {
        for (from, to) in [(&client, &server), (&server, &client)] {
            let (mut from, mut to, data) =
                (from.try_clone().unwrap(), to.try_clone().unwrap(), &data);
            scope.spawn(move || from.write_all(data).unwrap());
            scope.spawn(move || {
                let mut got = vec![0; data.len()];
                to.read_exact(&mut got).unwrap();
                assert!(got == *data, "the bytes have changed");
            });
        }
    });
    // After a round trip the worker is idle.
    client.write_all(b"x").unwrap();
    expect(&mut server, b"x");
    server.write_all(b"y").unwrap();
    expect(&mut client, b"y");
    let sockets =
        gateway.descriptors().iter().filter(|target| target.starts_with("socket:")).count();
    let pipes = gateway.descriptors().iter().filter(|target| target.starts_with("pipe:")).count();
    assert!(sockets >= 4 && pipes <= 2 + 2 * 4, "{sockets} sockets, {pipes} ends of pipes");
}

#[test]
fn a_reader_that_stops_holds_up_only_its_own_writer() {
    let backend = Backend::new();
    let gateway = start_with(
        &config("", &route("www.a.test", &[backend.address()], "")),
        &["--workers", "1"],
    );
    let mut stuck = gateway.connect("tls");
    stuck.write_all(HELLO).unwrap();
    let mut server = backend.accept();
    expect(&mut server, HELLO);
    server.set_nonblocking(true).unwrap();
    // Until all buffers on the way are full.
    let mut sent = 0;
    let mut refused = 0;
    while refused < 1000 {
        match server.write(&[7; 8192]) {
            Ok(count) => (sent, refused) = (sent + count, 0),
            Err(_) => refused += 1,
        }
        std::thread::yield_now();
    }
    let mut other = gateway.connect("tls");
    other.write_all(HELLO).unwrap();
    let mut second = backend.accept();
    second.write_all(b"not held up").unwrap();
    expect(&mut other, b"not held up");
    server.set_nonblocking(false).unwrap();
    drop(server);
    assert_eq!(rest(stuck).len(), sent, "no byte is lost");
}

#[test]
fn a_reset_is_passed_on_and_affects_no_other_connection() {
    use rustix::net::sockopt::set_socket_linger;
    let backend = Backend::new();
    let gateway = start_with(
        &config("", &route("www.a.test", &[backend.address()], "")),
        &["--ops-addr", "127.0.0.1:0"],
    );
    let reset = |stream: std::net::TcpStream| {
        set_socket_linger(&stream, Some(std::time::Duration::ZERO)).unwrap();
    };
    for cut in [0, 1, 100, HELLO.len()] {
        let mut client = gateway.connect("tls");
        client.write_all(&HELLO[..cut]).unwrap();
        if cut == HELLO.len() {
            let mut server = backend.accept();
            expect(&mut server, HELLO);
            server.write_all(b"x").unwrap();
            expect(&mut client, b"x");
            reset(client);
            ended(&mut server);
        } else {
            reset(client);
        }
    }
    let mut client = gateway.connect("tls");
    client.write_all(HELLO).unwrap();
    let mut server = backend.accept();
    expect(&mut server, HELLO);
    server.write_all(b"x").unwrap();
    expect(&mut client, b"x");
    reset(server);
    assert_eq!(client.read(&mut [0]).unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
    // The gateway does not read from a client whose backend is full, but its reset counts at once.
    let mut client = gateway.connect("tls");
    client.write_all(HELLO).unwrap();
    let mut server = backend.accept();
    expect(&mut server, HELLO);
    client.set_nonblocking(true).unwrap();
    let mut refused = 0;
    while refused < 1000 {
        match client.write(&[7; 8192]) {
            Ok(_) => refused = 0,
            Err(_) => refused += 1,
        }
        std::thread::yield_now();
    }
    reset(client);
    gateway.until_metric("kiln_gateway_connections", 0);
}
