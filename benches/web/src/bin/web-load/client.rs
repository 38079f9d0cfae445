//! One connection, which sends a request, checks the response's head and counts the bytes of its body.

use std::net::SocketAddr;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, connect, recv, send, socket_with,
};

/// Bytes that are read at once until the head is complete; a short response needs one read.
const FIRST_READ: usize = 16 << 10;

/// The use of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// One request after another.
    Keep,
    /// One request, after which the server must close the connection.
    New,
    /// One request, after which the client closes the connection.
    Leave,
}

/// A connection with at most one request.
#[derive(Debug)]
pub struct Client {
    /// A blocking socket, which is read without waiting.
    pub socket: OwnedFd,
    /// The start of the current request; for a new connection the time before it was opened.
    pub started: Instant,
    /// The expected length of the body in bytes.
    length: usize,
    mode: Mode,
    /// Bytes of the response that are missing; `None` until the head has arrived.
    left: Option<usize>,
    ended: bool,
}

/// Buffers that all connections share.
#[derive(Debug)]
pub struct Scratch {
    first: Vec<u8>,
    /// Never written to: its length is the number of bytes that the kernel discards at once.
    rest: Vec<u8>,
}

/// The result of a read.
#[derive(Debug)]
pub enum Outcome {
    /// The response is incomplete.
    Unfinished,
    /// The response is complete and correct.
    Finished,
    /// The response is wrong, with the reason.
    Broken(String),
}

impl Scratch {
    /// Makes buffers for bodies of this length.
    pub fn new(length: usize) -> Self {
        Self { first: vec![0; FIRST_READ], rest: vec![0; length.max(1)] }
    }
}

impl Client {
    /// Opens a connection. On loopback the handshake takes no time of the server's process.
    pub fn connect(address: SocketAddr, length: usize, mode: Mode) -> Result<Self> {
        let started = Instant::now();
        let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let socket = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        connect(&socket, &address).with_context(|| format!("cannot connect to {address}"))?;
        Ok(Self { socket, started, length, mode, left: None, ended: false })
    }

    /// Sends the next request.
    pub fn send(&mut self, request: &[u8]) -> Result<()> {
        if self.mode == Mode::Keep {
            self.started = Instant::now();
        }
        self.left = None;
        let sent =
            send(&self.socket, request, SendFlags::NOSIGNAL).context("cannot send a request")?;
        ensure!(sent == request.len(), "only a part of a request was sent");
        Ok(())
    }

    /// True if the next request needs a new connection.
    pub fn is_closed(&self) -> bool {
        self.mode != Mode::Keep || self.ended
    }

    /// Reads the bytes that have arrived.
    pub fn readable(&mut self, scratch: &mut Scratch) -> Outcome {
        let read = match self.left {
            None => recv(&self.socket, &mut scratch.first[..], RecvFlags::DONTWAIT),
            Some(left) => {
                let room = left.clamp(1, scratch.rest.len());
                let flags = RecvFlags::DONTWAIT | RecvFlags::TRUNC;
                recv(&self.socket, &mut scratch.rest[..room], flags)
            }
        };
        match read {
            Ok((_, 0)) => self.end(),
            Ok((_, count)) => self.take(count, &scratch.first),
            Err(Errno::AGAIN) => Outcome::Unfinished,
            Err(errno) => self.broken(format!("cannot read: {errno}")),
        }
    }

    fn take(&mut self, count: usize, first: &[u8]) -> Outcome {
        let left = match self.left {
            Some(left) => left.checked_sub(count),
            None => match checked(&first[..count], self.length) {
                Ok(left) => left,
                Err(why) => return self.broken(why),
            },
        };
        self.left = left;
        match left {
            None => self.broken("the response is too long".to_owned()),
            // The end of the connection is part of the response.
            Some(0) if self.mode != Mode::New => Outcome::Finished,
            Some(_) => Outcome::Unfinished,
        }
    }

    /// Handles the end of the connection.
    fn end(&mut self) -> Outcome {
        self.ended = true;
        if self.mode == Mode::New && self.left == Some(0) {
            return Outcome::Finished;
        }
        self.broken("the connection ended before the response".to_owned())
    }

    fn broken(&mut self, why: String) -> Outcome {
        self.ended = true;
        Outcome::Broken(why)
    }
}

/// Checks the head and returns the number of missing bytes; `None` if there are too many. The servers send
/// the head in one piece.
fn checked(bytes: &[u8], length: usize) -> Result<Option<usize>, String> {
    let text = || String::from_utf8_lossy(&bytes[..bytes.len().min(300)]).into_owned();
    if !bytes.starts_with(b"HTTP/1.1 200 ") {
        return Err(format!("the status is not 200: {}", text()));
    }
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n");
    let end = end.ok_or_else(|| format!("the head is incomplete: {}", text()))?;
    let found = bytes[..end].split(|byte| *byte == b'\n').find_map(content_length);
    if found != Some(length) {
        return Err(format!("Content-Length is {found:?} instead of {length}: {}", text()));
    }
    Ok((end + 4 + length).checked_sub(bytes.len()))
}

fn content_length(line: &[u8]) -> Option<usize> {
    const NAME: &[u8] = b"content-length:";
    let name = line.get(..NAME.len()).filter(|name| name.eq_ignore_ascii_case(NAME))?;
    std::str::from_utf8(&line[name.len()..]).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::checked;

    #[test]
    fn a_response_is_counted_to_its_last_byte() {
        let head = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n";
        assert_eq!(checked(head, 4), Ok(Some(4)));
        assert_eq!(checked(&[head, &b"body"[..]].concat(), 4), Ok(Some(0)));
        assert_eq!(checked(&[head, &b"body+"[..]].concat(), 4), Ok(None));
    }

    #[test]
    fn a_wrong_status_or_length_is_refused() {
        for bad in [
            "HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\n",
            "HTTP/1.1 200 OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\n",
        ] {
            assert!(checked(bad.as_bytes(), 4).is_err(), "{bad}");
        }
    }
}
