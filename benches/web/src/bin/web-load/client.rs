//! One connection: sends a request, checks the answer's head, counts its body.

use std::net::SocketAddr;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, connect, recv, send, socket_with,
};

/// Read at once as long as the head is not whole; a short answer needs one read.
const FIRST_READ: usize = 16 << 10;

/// A connection with at most one request.
#[derive(Debug)]
pub struct Client {
    /// Blocking, but read without waiting.
    pub socket: OwnedFd,
    /// When the present request was begun; for a new connection before it was opened.
    pub started: Instant,
    /// Body length that is expected.
    length: usize,
    /// The server shall close after the answer.
    fresh: bool,
    /// Bytes of the answer that are still to come; none while the head has not come.
    left: Option<usize>,
    ended: bool,
}

/// Room that all connections share.
#[derive(Debug)]
pub struct Scratch {
    first: Vec<u8>,
    /// Never touched: its length is what the kernel may throw away at once.
    rest: Vec<u8>,
}

/// What a read has led to.
#[derive(Debug)]
pub enum Outcome {
    /// More is to come.
    Unfinished,
    /// The answer is whole and right.
    Finished,
    /// It is not what was asked for.
    Broken(String),
}

impl Scratch {
    /// For bodies of this length.
    pub fn new(length: usize) -> Self {
        Self { first: vec![0; FIRST_READ], rest: vec![0; length.max(1)] }
    }
}

impl Client {
    /// Opens a connection. The handshake on loopback needs nothing of the server's process.
    pub fn connect(address: SocketAddr, length: usize, fresh: bool) -> Result<Self> {
        let started = Instant::now();
        let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let socket = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        connect(&socket, &address).with_context(|| format!("connecting to {address}"))?;
        Ok(Self { socket, started, length, fresh, left: None, ended: false })
    }

    /// Begins the next request.
    pub fn send(&mut self, request: &[u8]) -> Result<()> {
        if !self.fresh {
            self.started = Instant::now();
        }
        self.left = None;
        let sent = send(&self.socket, request, SendFlags::NOSIGNAL).context("sending a request")?;
        ensure!(sent == request.len(), "a request was sent in part");
        Ok(())
    }

    /// Whether the next request needs a new connection.
    pub fn over(&self) -> bool {
        self.fresh || self.ended
    }

    /// Takes what has come.
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
            Err(errno) => self.broken(format!("reading: {errno}")),
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
            None => self.broken("more bytes than the answer has".to_owned()),
            // The end of the connection is part of the exchange.
            Some(0) if !self.fresh => Outcome::Finished,
            Some(_) => Outcome::Unfinished,
        }
    }

    /// The server has closed.
    fn end(&mut self) -> Outcome {
        self.ended = true;
        if self.fresh && self.left == Some(0) {
            return Outcome::Finished;
        }
        self.broken("the connection ended before the answer".to_owned())
    }

    fn broken(&mut self, why: String) -> Outcome {
        self.ended = true;
        Outcome::Broken(why)
    }
}

/// Bytes that are still to come after a head that is right; no server splits its head here.
fn checked(bytes: &[u8], length: usize) -> Result<Option<usize>, String> {
    let told = || String::from_utf8_lossy(&bytes[..bytes.len().min(300)]).into_owned();
    if !bytes.starts_with(b"HTTP/1.1 200 ") {
        return Err(format!("no 200: {}", told()));
    }
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n");
    let end = end.ok_or_else(|| format!("no whole head: {}", told()))?;
    let said = bytes[..end].split(|byte| *byte == b'\n').find_map(content_length);
    if said != Some(length) {
        return Err(format!("Content-Length is {said:?} and should be {length}: {}", told()));
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
    fn an_answer_is_counted_to_its_last_byte() {
        let head = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n";
        assert_eq!(checked(head, 4), Ok(Some(4)));
        assert_eq!(checked(&[head, &b"body"[..]].concat(), 4), Ok(Some(0)));
        assert_eq!(checked(&[head, &b"body+"[..]].concat(), 4), Ok(None));
    }

    #[test]
    fn another_status_or_length_is_no_answer() {
        for bad in [
            "HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\n",
            "HTTP/1.1 200 OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\n",
        ] {
            assert!(checked(bad.as_bytes(), 4).is_err(), "{bad}");
        }
    }
}
