//! UDP requests and replies, each with a deadline and a random port.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::AsFd as _;
use std::time::Duration;

use kiln_base::time::timespec;
use kiln_daemon::signal::Termination;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use super::now;

/// The longest reply that is read, in bytes; a DNS message over UDP without extensions has up to 512.
const REPLY_BYTES_MAX: usize = 1024;

/// A request that was sent.
#[derive(Debug)]
pub(super) struct Exchange<T> {
    socket: UdpSocket,
    /// The caller's data about the request.
    pub(super) subject: T,
}

impl<T> Exchange<T> {
    /// Sends a request. The socket is connected, so that the kernel drops packets from other senders, and
    /// the kernel chooses its port at random (RFC 9109).
    pub(super) fn begin(server: SocketAddr, request: &[u8], subject: T) -> io::Result<Self> {
        let any: IpAddr = match server {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let socket = UdpSocket::bind((any, 0))?;
        socket.set_nonblocking(true)?;
        socket.connect(server)?;
        socket.send(request)?;
        Ok(Self { socket, subject })
    }
}

/// The reason why waiting ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// All requests were answered, or the time is up.
    Done,
    /// A termination signal arrived.
    Terminated,
}

/// Waits for replies for at most `time`. `take` returns true if a packet completes its request; a
/// socket error (such as a closed port) completes the request too.
pub(super) fn collect<T>(
    mut open: Vec<Exchange<T>>,
    time: Duration,
    termination: &Termination,
    mut take: impl FnMut(&T, &[u8]) -> bool,
) -> anyhow::Result<End> {
    let deadline = now() + time;
    let mut buffer = [0; REPLY_BYTES_MAX];
    while !open.is_empty() {
        let left = deadline.saturating_sub(now());
        if left.is_zero() {
            break;
        }
        if wait(&open, left, termination)? {
            return Ok(End::Terminated);
        }
        open.retain(|exchange| match exchange.socket.recv(&mut buffer) {
            Ok(length) => !take(&exchange.subject, &buffer[..length]),
            Err(error) => error.kind() == io::ErrorKind::WouldBlock,
        });
    }
    Ok(End::Done)
}

/// Waits for a packet; returns true for a termination signal.
fn wait<T>(
    open: &[Exchange<T>],
    time: Duration,
    termination: &Termination,
) -> anyhow::Result<bool> {
    let mut fds = vec![PollFd::from_borrowed_fd(termination.as_fd(), PollFlags::IN)];
    let sockets = open.iter().map(|exchange| exchange.socket.as_fd());
    fds.extend(sockets.map(|socket| PollFd::from_borrowed_fd(socket, PollFlags::IN)));
    match poll(&mut fds, Some(&timespec(time))) {
        Ok(_) | Err(Errno::INTR) => Ok(!fds[0].revents().is_empty()),
        Err(error) => Err(error.into()),
    }
}
