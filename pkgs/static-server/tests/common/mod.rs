//! A server with a folder of its own, for the tests that talk to the program itself.
//!
//! Nothing here sleeps; a socket's timeout only ends a test that would hang.

#![allow(dead_code, reason = "each test program uses a part of it")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

pub const DEADLINE: Duration = Duration::from_secs(40);
pub const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
pub const LAST: &str = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";

/// More than the kernel buffers for a connection over loopback.
pub const LARGE: usize = 16 << 20;

/// A server; killed when dropped.
pub struct Server {
    pub child: Child,
    pub address: String,
    pub folder: tempfile::TempDir,
    log: BufReader<ChildStderr>,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[expect(clippy::disallowed_methods, reason = "the test's own child, not part of a build")]
pub fn command() -> Command {
    Command::new(env!("CARGO_BIN_EXE_static-server"))
}

/// A folder with a page and a large file.
pub fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("index.html"), "page").unwrap();
    std::fs::write(folder.path().join("large"), vec![b'x'; LARGE]).unwrap();
    folder
}

pub fn start(options: &[&str]) -> Server {
    start_in(folder(), "", options)
}

/// Serves what is at a path below the folder.
pub fn start_in(folder: tempfile::TempDir, path: &str, options: &[&str]) -> Server {
    start_command(command(), folder, path, options)
}

/// The same with a command that was prepared.
pub fn start_command(
    mut command: Command,
    folder: tempfile::TempDir,
    path: &str,
    options: &[&str],
) -> Server {
    command.args(["-b", "127.0.0.1", "-p", "0", "-s"]).arg(folder.path().join(path)).args(options);
    let mut child = command.stderr(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let log = BufReader::new(child.stderr.take().unwrap());
    let mut server = Server { child, address: String::new(), folder, log };
    server.address = server.until_log("serving on ");
    server
}

impl Server {
    /// Reads the log up to a line with this text; returns what follows it.
    pub fn until_log(&mut self, text: &str) -> String {
        loop {
            let mut line = String::new();
            assert!(self.log.read_line(&mut line).unwrap() > 0, "it ended before {text:?}");
            if let Some((_, rest)) = line.trim_end().split_once(text) {
                return rest.to_owned();
            }
        }
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.set_write_timeout(Some(DEADLINE)).unwrap();
        stream
    }

    /// All that is answered until the server closes.
    pub fn talk(&self, request: &str) -> String {
        let mut stream = self.connect();
        stream.write_all(request.as_bytes()).unwrap();
        rest(stream)
    }

    /// The whole answer for a path.
    pub fn get(&self, path: &str) -> String {
        self.talk(&LAST.replace("/ HTTP", &format!("{path} HTTP")))
    }

    /// Asks again and again until the body is that; the deadline of a socket ends it.
    pub fn until_body(&self, path: &str, body: &str) {
        let start = std::time::Instant::now();
        while !self.get(path).ends_with(&format!("\r\n\r\n{body}")) {
            assert!(start.elapsed() < DEADLINE, "{path} never became {body}");
        }
    }
}

pub fn rest(mut stream: TcpStream) -> String {
    let mut text = Vec::new();
    stream.read_to_end(&mut text).unwrap();
    String::from_utf8(text).unwrap()
}

/// Reads exactly one answer of the page.
pub fn page(stream: &mut TcpStream) {
    let mut text = Vec::new();
    while !text.ends_with(b"\r\n\r\npage") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        text.push(byte[0]);
    }
    assert!(text.starts_with(b"HTTP/1.1 200 OK\r\n"));
}
