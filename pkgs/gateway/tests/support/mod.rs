//! Gateways, backends, and the bytes of real clients.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// The deadline of every wait. It ends a test that would hang; no test waits for it to pass.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// The first flight of a Go 1.26 client that asks for `www.a.test`, with a post-quantum key share.
pub const HELLO: &[u8] = include_bytes!("go-1.26.hello");

/// The options that open the port for operations.
pub const OPS: [&str; 2] = ["--ops-addr", "127.0.0.1:0"];

/// A running gateway, which is killed when dropped.
pub struct Gateway {
    pub child: Child,
    pub file: PathBuf,
    /// The log line that reports readiness.
    pub ready: String,
    pub addresses: Vec<(String, SocketAddr)>,
    pub log: Receiver<String>,
    _folder: tempfile::TempDir,
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
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

/// Does the same with another command.
pub fn start_by(mut command: Command, config: &str, options: &[&str]) -> Gateway {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("gateway.toml");
    std::fs::write(&file, config).unwrap();
    std::fs::write(folder.path().join("hosts"), "").unwrap();
    command
        .arg(&file)
        .args(["--workers", "2"])
        .args(options)
        .stderr(Stdio::piped())
        .stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let (sender, log) = channel();
    let stderr = BufReader::new(child.stderr.take().unwrap());
    std::thread::spawn(move || {
        stderr.lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
    });
    let (addresses, ready) = (Vec::new(), String::new());
    let mut gateway = Gateway { child, file, ready, addresses, log, _folder: folder };
    let end = Instant::now() + DEADLINE;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let line = gateway.log.recv_timeout(left).expect("the gateway does not serve");
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[2..] {
            ["serving", name, "on", address, ..] => {
                gateway.addresses.push((name.to_owned(), address.parse().unwrap()));
            }
            ["operations", "on", address, ..] => {
                gateway.addresses.push(("ops".to_owned(), address.parse().unwrap()));
            }
            ["ready", ..] => {
                gateway.ready = line;
                return gateway;
            }
            _ => {}
        }
    }
}

impl Gateway {
    pub fn address(&self, listener: &str) -> SocketAddr {
        self.addresses.iter().find(|(name, _)| name == listener).unwrap().1
    }

    pub fn connect(&self, listener: &str) -> TcpStream {
        connect(self.address(listener))
    }

    /// Sends bytes and reads until the end.
    pub fn talk(&self, listener: &str, bytes: &[u8]) -> Vec<u8> {
        talk(self.address(listener), bytes)
    }

    /// Sends an HTTP request and reads until the end.
    pub fn ask(&self, request: &str) -> String {
        String::from_utf8(self.talk("http", request.as_bytes())).unwrap()
    }

    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    /// Returns the lines of the access log as they are written.
    pub fn access_log(&mut self) -> Receiver<String> {
        let (sender, lines) = channel();
        let stdout = BufReader::new(self.child.stdout.take().unwrap());
        std::thread::spawn(move || {
            stdout.lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        lines
    }

    /// Waits for a log line with this text; other lines do not extend the deadline.
    pub fn wait_for(&self, text: &str) -> String {
        let end = Instant::now() + DEADLINE;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let line =
                self.log.recv_timeout(left).unwrap_or_else(|_| panic!("no line with {text}"));
            if line.contains(text) {
                return line;
            }
        }
    }

    /// Returns a metric.
    pub fn metric(&self, name: &str) -> u64 {
        let text = String::from_utf8(self.talk("ops", b"GET /metrics HTTP/1.1\r\n\r\n")).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {name} in {text}")).parse().unwrap()
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

    /// Returns the targets of the gateway's descriptors.
    pub fn descriptors(&self) -> Vec<String> {
        let folder = format!("/proc/{}/fd", self.child.id());
        let targets = std::fs::read_dir(folder).unwrap().filter_map(|entry| {
            let target = std::fs::read_link(entry.ok()?.path()).ok()?;
            Some(target.to_string_lossy().into_owned())
        });
        targets.collect()
    }
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    set_deadlines(&stream);
    stream
}

/// Sends bytes and reads until the end.
pub fn talk(address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = connect(address);
    stream.write_all(bytes).unwrap();
    rest(stream)
}

fn set_deadlines(stream: &TcpStream) {
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.set_write_timeout(Some(DEADLINE)).unwrap();
    stream.set_nodelay(true).unwrap();
}

/// Reads until the end; a reset counts as an end.
pub fn rest(mut stream: TcpStream) -> Vec<u8> {
    let mut all = Vec::new();
    let mut buffer = vec![0; 65536];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return all,
            Ok(count) => all.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return all,
            Err(error) => panic!("{error}, after {} bytes", all.len()),
        }
    }
}

/// Waits for the peer's end, orderly or by a reset, without another byte.
#[track_caller]
pub fn ended(stream: &mut TcpStream) {
    match stream.read(&mut [0]) {
        Ok(0) => {}
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {}
        other => panic!("{other:?}"),
    }
}

/// Reads bytes and checks that they are these.
#[track_caller]
pub fn expect(stream: &mut TcpStream, bytes: &[u8]) {
    let mut got = vec![0; bytes.len()];
    stream.read_exact(&mut got).unwrap();
    assert_eq!(String::from_utf8_lossy(&got), String::from_utf8_lossy(bytes));
}

/// Reads until this text has been read.
pub fn read_to(stream: &mut TcpStream, end: &str) -> String {
    let mut text = Vec::new();
    while !text.ends_with(end.as_bytes()) {
        let mut byte = [0];
        stream
            .read_exact(&mut byte)
            .unwrap_or_else(|e| panic!("{e} after {}", String::from_utf8_lossy(&text)));
        text.push(byte[0]);
    }
    String::from_utf8_lossy(&text).into_owned()
}

/// A backend whose side a test plays itself.
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
        set_deadlines(&stream);
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
