//! Gateways, backends, and the bytes of real clients.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::ops::{Deref, DerefMut};
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

pub use kiln_test_support::DEADLINE;
use kiln_test_support::client;
#[allow(unused_imports, reason = "each test program uses a part of it")]
pub use kiln_test_support::client::{ended, expect, read_to, rest, talk};
use kiln_test_support::program::{Program, figure};
use rustix::process::Signal;

/// The first flight of a Go 1.26 client that asks for `www.a.test`, with a post-quantum key share.
pub const HELLO: &[u8] = include_bytes!("go-1.26.hello");

/// The options that open the operations port.
pub const OPS: [&str; 2] = ["--ops-addr", "127.0.0.1:0"];

/// A running gateway.
pub struct Gateway {
    program: Program,
    pub file: PathBuf,
    pub addresses: Vec<(String, SocketAddr)>,
    _folder: tempfile::TempDir,
}

impl Deref for Gateway {
    type Target = Program;

    fn deref(&self) -> &Program {
        &self.program
    }
}

impl DerefMut for Gateway {
    fn deref_mut(&mut self) -> &mut Program {
        &mut self.program
    }
}

#[expect(clippy::disallowed_methods, reason = "the test's own child, not part of a build")]
pub fn command() -> Command {
    Command::new(env!("CARGO_BIN_EXE_gateway"))
}

/// A configuration with listeners `tls` and `http` on loopback, which have these additional keys, and
/// with these routes.
pub fn config(keys: &str, routes: &str) -> String {
    let listener = |kind: &str| {
        format!(
            "[[listener]]\nname = \"{kind}\"\naddress = \"127.0.0.1:0\"\nkind = \"{kind}\"\n{keys}\n"
        )
    };
    [&listener("tls"), &listener("http"), routes].concat()
}

/// A route for a name.
pub fn route(name: &str, backends: &[SocketAddr], keys: &str) -> String {
    let backends: Vec<String> = backends.iter().map(ToString::to_string).collect();
    format!("[[route]]\nnames = [\"{name}\"]\nbackends = {backends:?}\n{keys}\n")
}

pub fn start(config: &str) -> Gateway {
    start_with(config, &[])
}

/// Starts a gateway and waits until it serves.
pub fn start_with(config: &str, options: &[&str]) -> Gateway {
    start_by(command(), config, options)
}

/// Starts a gateway with a prepared command, and waits until it serves.
pub fn start_by(mut command: Command, config: &str, options: &[&str]) -> Gateway {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("gateway.toml");
    std::fs::write(&file, config).unwrap();
    std::fs::write(folder.path().join("hosts"), "").unwrap();
    command.arg(&file).args(["--workers", "2"]).args(options);
    let program = Program::start(command);
    let mut addresses = Vec::new();
    loop {
        let line = program.next_log();
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[2..] {
            ["serving", name, "on", address, ..] => {
                addresses.push((name.to_owned(), address.parse().unwrap()));
            }
            ["operations", "on", address, ..] => {
                addresses.push(("ops".to_owned(), address.parse().unwrap()));
            }
            ["ready", ..] => return Gateway { program, file, addresses, _folder: folder },
            _ => {}
        }
    }
}

impl Gateway {
    pub fn address(&self, listener: &str) -> SocketAddr {
        self.addresses.iter().find(|(name, _)| name == listener).unwrap().1
    }

    pub fn connect(&self, listener: &str) -> TcpStream {
        client::connect(self.address(listener))
    }

    /// Sends bytes and reads until the end.
    pub fn talk(&self, listener: &str, bytes: &[u8]) -> Vec<u8> {
        talk(self.address(listener), bytes)
    }

    /// Sends an HTTP request and reads until the end.
    pub fn ask(&self, request: &str) -> String {
        String::from_utf8(self.talk("http", request.as_bytes())).unwrap()
    }

    /// Returns a metric.
    pub fn metric(&self, name: &str) -> u64 {
        let text = String::from_utf8(self.talk("ops", b"GET /metrics HTTP/1.1\r\n\r\n")).unwrap();
        figure(&text, name)
    }

    /// Reads a metric until it has the expected value. Each read is a round trip, so this waits for the
    /// gateway and not for a clock.
    pub fn until_metric(&self, name: &str, expected: u64) {
        let start = Instant::now();
        while start.elapsed() < DEADLINE {
            if self.metric(name) == expected {
                return;
            }
            std::thread::yield_now();
        }
        panic!("{name} is {} and not {expected}", self.metric(name));
    }
}

/// A backend whose side the test itself plays.
pub struct Backend(TcpListener);

impl Backend {
    pub fn new() -> Self {
        Self::on("127.0.0.1:0".parse().unwrap()).unwrap()
    }

    pub fn on(address: SocketAddr) -> std::io::Result<Self> {
        TcpListener::bind(address).map(Self)
    }

    pub fn address(&self) -> SocketAddr {
        self.0.local_addr().unwrap()
    }

    pub fn accept(&self) -> TcpStream {
        let (stream, _) = self.0.accept().unwrap();
        client::with_deadline(&stream);
        stream
    }

    /// Fills the accept queue, so that connecting takes until [`Backend::accept`] has made room. The
    /// queue holds one connection, which is returned; the kernel drops the SYN of the others, which
    /// they send again after a second.
    pub fn fill(&self) -> TcpStream {
        rustix::net::listen(&self.0, 0).unwrap();
        TcpStream::connect(self.address()).unwrap()
    }

    /// True if no connection waits to be accepted.
    pub fn is_alone(&self) -> bool {
        self.0.set_nonblocking(true).unwrap();
        let alone = self.0.accept().is_err();
        self.0.set_nonblocking(false).unwrap();
        alone
    }

    /// Responds to the first bytes of every connection, HTTP or TLS, with its name, and closes it.
    pub fn echo_name(self, name: &'static str) {
        std::thread::spawn(move || {
            loop {
                let Ok((mut stream, _)) = self.0.accept() else { return };
                let mut buffer = [0; 4096];
                let _ = stream.read(&mut buffer);
                let head = "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n";
                let _ = stream.write_all(format!("{head}{name}").as_bytes());
                let _ = stream.shutdown(Shutdown::Write);
            }
        });
    }
}

/// An address on which no process listens.
pub fn closed() -> SocketAddr {
    Backend::new().address()
}

/// A request for a host.
pub fn get(host: &str) -> String {
    format!("GET /path HTTP/1.1\r\nHost: {host}\r\n\r\n")
}

/// Sends a request for `a.test`, then SIGTERM; returns once the gateway accepts no more clients.
pub fn asked_before_sigterm(gateway: &Gateway) -> TcpStream {
    let mut client = gateway.connect("http");
    client.write_all(get("a.test").as_bytes()).unwrap();
    gateway.until_metric("kiln_gateway_route_connections_total{route=\"a.test\"}", 1);
    let address = gateway.address("http");
    gateway.signal(Signal::TERM);
    let start = Instant::now();
    while TcpStream::connect(address).is_ok() {
        assert!(start.elapsed() < DEADLINE, "the gateway still accepts connections after SIGTERM");
    }
    client
}

/// Responds to a request without closing, and checks that the client's connection ends.
#[track_caller]
pub fn last_response(backend: &Backend, client: TcpStream) {
    let mut server = backend.accept();
    read_to(&mut server, "\r\n\r\n");
    server.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").unwrap();
    assert!(rest(client).starts_with(b"HTTP/1.1 204 "));
}
