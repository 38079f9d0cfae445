//! A server with its own folder, for tests that talk to the program.

#![allow(dead_code, reason = "each test program uses a part of it")]

use std::io::Write as _;
use std::net::TcpStream;
use std::ops::{Deref, DerefMut};
use std::path::Path;
use std::process::Command;

pub use kiln_test_support::DEADLINE;
use kiln_test_support::client;
use kiln_test_support::program::Program;

pub const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
pub const LAST: &str = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";

/// More bytes than the kernel buffers for a connection over loopback.
pub const LARGE: usize = 16 << 20;

/// A running server with its folder.
pub struct Server {
    program: Program,
    pub address: String,
    pub folder: tempfile::TempDir,
}

impl Deref for Server {
    type Target = Program;

    fn deref(&self) -> &Program {
        &self.program
    }
}

impl DerefMut for Server {
    fn deref_mut(&mut self) -> &mut Program {
        &mut self.program
    }
}

#[expect(clippy::disallowed_methods, reason = "the test's own child, not part of a build")]
pub fn command() -> Command {
    Command::new(env!("CARGO_BIN_EXE_static-server"))
}

/// Makes a folder with a page and a large file.
pub fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("index.html"), "page").unwrap();
    std::fs::write(folder.path().join("large"), vec![b'x'; LARGE]).unwrap();
    folder
}

pub fn start(options: &[&str]) -> Server {
    start_in(folder(), "", options)
}

/// Serves the content of a path below the folder.
pub fn start_in(folder: tempfile::TempDir, path: &str, options: &[&str]) -> Server {
    start_command(command(), folder, path, options)
}

/// Starts a server with a prepared command.
pub fn start_command(
    mut command: Command,
    folder: tempfile::TempDir,
    path: &str,
    options: &[&str],
) -> Server {
    command.args(["-b", "127.0.0.1", "-p", "0", "-s"]).arg(folder.path().join(path)).args(options);
    let program = Program::start(command);
    let line = program.until_log("serving on ");
    let address = line.split("serving on ").nth(1).unwrap().to_owned();
    Server { program, address, folder }
}

impl Server {
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    pub fn connect(&self) -> TcpStream {
        client::connect(self.address.parse().unwrap())
    }

    /// Returns everything that the server sends until it closes the connection.
    pub fn talk(&self, request: &str) -> String {
        let mut stream = self.connect();
        stream.write_all(request.as_bytes()).unwrap();
        rest(stream)
    }

    /// Returns the whole answer for a path.
    pub fn get(&self, path: &str) -> String {
        self.talk(&LAST.replace("/ HTTP", &format!("{path} HTTP")))
    }

    /// Repeats a request until its answer has this body; only the deadline stops a test that never
    /// gets it.
    pub fn until_body(&self, path: &str, body: &str) {
        let start = std::time::Instant::now();
        while !self.get(path).ends_with(&format!("\r\n\r\n{body}")) {
            assert!(start.elapsed() < DEADLINE, "{path} never became {body}");
        }
    }
}

/// Returns everything that the server sends until it closes the connection without a reset.
pub fn rest(stream: TcpStream) -> String {
    String::from_utf8(client::rest_in_order(stream)).unwrap()
}

/// Reads exactly one answer with the page.
pub fn page(stream: &mut TcpStream) {
    let text = client::read_to(stream, "\r\n\r\npage");
    assert!(text.starts_with("HTTP/1.1 200 OK\r\n"));
}
