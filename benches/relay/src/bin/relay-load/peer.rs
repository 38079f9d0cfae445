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

/// Bytes of a response.
const RESPONSE: usize = 1024;

/// The bytes that the backend sends again and again.
static DATA: [u8; 256 << 10] = [0x17; 256 << 10];

/// The measured property.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// New connections.
    New,
    /// Bytes from the backend.
    Bulk,
    /// The gateway's memory with idle connections.
    Idle,
}

/// The end of a connection at which a peer is.
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

/// The events since a peer was last advanced.
#[derive(Debug, Default)]
pub struct Progress {
    /// Bytes that reached a client.
    pub received: u64,
    /// True if a client has received its whole response.
    pub answered: bool,
    /// True if the connection must be closed.
    pub closed: bool,
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

    pub fn advance(&mut self, mode: Mode) -> Result<Progress> {
        match self.role {
            Role::Client => self.client(mode),
            Role::Backend => self.backend(mode),
        }
    }

    fn client(&mut self, mode: Mode) -> Result<Progress> {
        if self.sent < HELLO.len() && !self.send(&HELLO[self.sent..])? {
            return Ok(Progress::default());
        }
        let before = self.received;
        let ended = self.receive(mode == Mode::Bulk)?;
        let answered = before < RESPONSE && self.received >= RESPONSE;
        let closed = ended || (mode == Mode::New && self.received >= RESPONSE);
        Ok(Progress { received: (self.received - before) as u64, answered, closed })
    }

    fn backend(&mut self, mode: Mode) -> Result<Progress> {
        let ended = self.receive(false)?;
        if self.received >= HELLO.len() {
            let most = if mode == Mode::Bulk { usize::MAX } else { RESPONSE };
            while self.sent < most {
                if !self.send(&DATA[..DATA.len().min(most - self.sent)])? {
                    break;
                }
            }
        }
        Ok(Progress { closed: ended, ..Progress::default() })
    }

    /// Sends bytes; returns false if the socket accepts none.
    fn send(&mut self, bytes: &[u8]) -> Result<bool> {
        match send(&self.socket, bytes, SendFlags::NOSIGNAL) {
            Ok(count) => {
                self.sent += count;
                Ok(true)
            }
            Err(Errno::AGAIN | Errno::NOTCONN) => Ok(false),
            Err(Errno::PIPE | Errno::CONNRESET) if self.role == Role::Backend => Ok(false),
            Err(errno) => bail!("cannot send: {errno}"),
        }
    }

    /// Discards the received bytes; returns true at the end of the connection.
    fn receive(&mut self, in_kernel: bool) -> Result<bool> {
        let mut buffer = [0; 4096];
        loop {
            let got = if in_kernel {
                // The kernel copies nothing (MSG_TRUNC in tcp(7)); the buffer only limits the count.
                drop_bytes(&self.socket)
            } else {
                recv(&self.socket, &mut buffer, RecvFlags::empty()).map(|(_, count)| count)
            };
            match got {
                Ok(0) | Err(Errno::CONNRESET) => return Ok(true),
                Ok(count) => self.received += count,
                Err(Errno::AGAIN | Errno::NOTCONN) => return Ok(false),
                Err(errno) => bail!("cannot receive: {errno}"),
            }
        }
    }
}

/// Discards up to 1 MiB of the received bytes inside the kernel.
fn drop_bytes(socket: &OwnedFd) -> Result<usize, Errno> {
    thread_local! {
        static SPACE: std::cell::RefCell<Vec<u8>> = std::cell::RefCell::new(vec![0; 1 << 20]);
    }
    SPACE.with_borrow_mut(|space| {
        recv(socket, &mut space[..], RecvFlags::TRUNC).map(|(_, count)| count)
    })
}
