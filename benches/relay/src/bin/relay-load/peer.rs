//! One end of a connection through the gateway.

use std::net::{SocketAddr, TcpStream};
use std::time::Instant;

use anyhow::{Result, bail};
use relay_bench::HELLO;
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, connect, recv, send, socket_with,
    sockopt,
};

use crate::Mode;

/// Bytes of an answer.
const ANSWER: usize = 1024;

/// What the backend sends again and again.
static DATA: [u8; 256 << 10] = [0x17; 256 << 10];

/// Which end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Client,
    Backend,
}

#[derive(Debug)]
pub struct Peer {
    pub socket: OwnedFd,
    pub role: Role,
    pub begun: Instant,
    sent: usize,
    received: usize,
}

/// What came of a step.
#[derive(Debug, Default)]
pub struct Step {
    /// Bytes that reached a client.
    pub received: u64,
    /// A client has its whole answer.
    pub answered: bool,
    /// The connection is to be closed.
    pub over: bool,
}

impl Peer {
    pub fn connect(gateway: SocketAddr, begun: Instant) -> Result<Self> {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
        sockopt::set_tcp_nodelay(&socket, true)?;
        match connect(&socket, &gateway) {
            Ok(()) | Err(Errno::INPROGRESS) => {}
            Err(errno) => return Err(errno.into()),
        }
        Ok(Self { socket, role: Role::Client, begun, sent: 0, received: 0 })
    }

    pub fn accepted(stream: TcpStream) -> Result<Self> {
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        let (begun, role) = (Instant::now(), Role::Backend);
        Ok(Self { socket: stream.into(), role, begun, sent: 0, received: 0 })
    }

    pub fn step(&mut self, mode: Mode) -> Result<Step> {
        match self.role {
            Role::Client => self.client(mode),
            Role::Backend => self.backend(mode),
        }
    }

    fn client(&mut self, mode: Mode) -> Result<Step> {
        if self.sent < HELLO.len() && !self.send(&HELLO[self.sent..])? {
            return Ok(Step::default());
        }
        let before = self.received;
        let ended = self.receive(if mode == Mode::Bulk { usize::MAX } else { 0 })?;
        let answered = before < ANSWER && self.received >= ANSWER;
        let over = ended || (mode == Mode::New && self.received >= ANSWER);
        Ok(Step { received: (self.received - before) as u64, answered, over })
    }

    fn backend(&mut self, mode: Mode) -> Result<Step> {
        let ended = self.receive(0)?;
        if self.received >= HELLO.len() {
            let most = if mode == Mode::Bulk { usize::MAX } else { ANSWER };
            while self.sent < most {
                if !self.send(&DATA[..DATA.len().min(most - self.sent)])? {
                    break;
                }
            }
        }
        Ok(Step { over: ended, ..Step::default() })
    }

    /// False if nothing was taken.
    fn send(&mut self, bytes: &[u8]) -> Result<bool> {
        match send(&self.socket, bytes, SendFlags::NOSIGNAL) {
            Ok(count) => {
                self.sent += count;
                Ok(true)
            }
            Err(Errno::AGAIN | Errno::NOTCONN) => Ok(false),
            Err(Errno::PIPE | Errno::CONNRESET) if self.role == Role::Backend => Ok(false),
            Err(errno) => bail!("sending: {errno}"),
        }
    }

    /// Throws away what came; true at the end.
    fn receive(&mut self, most: usize) -> Result<bool> {
        let mut buffer = [0; 4096];
        loop {
            let got = if most > 0 {
                // The kernel copies nothing (tcp(7)), but wants to know how much it may drop.
                drop_bytes(&self.socket)
            } else {
                recv(&self.socket, &mut buffer, RecvFlags::empty()).map(|(_, count)| count)
            };
            match got {
                Ok(0) | Err(Errno::CONNRESET) => return Ok(true),
                Ok(count) => self.received += count,
                Err(Errno::AGAIN | Errno::NOTCONN) => return Ok(false),
                Err(errno) => bail!("receiving: {errno}"),
            }
        }
    }
}

/// Drops up to 1 MiB of what has come.
fn drop_bytes(socket: &OwnedFd) -> Result<usize, Errno> {
    thread_local! {
        static SPACE: std::cell::RefCell<Vec<u8>> = std::cell::RefCell::new(vec![0; 1 << 20]);
    }
    SPACE.with_borrow_mut(|space| {
        recv(socket, &mut space[..], RecvFlags::TRUNC).map(|(_, count)| count)
    })
}
