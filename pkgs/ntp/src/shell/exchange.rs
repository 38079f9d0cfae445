//! UDP questions and answers, with a deadline and a random port each.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::AsFd as _;
use std::time::Duration;

use kiln_daemon::signal::Termination;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::now;

/// The longest answer that is read: DNS over UDP without extensions has 512 bytes.
const BUFFER: usize = 1024;

/// A question that is out.
#[derive(Debug)]
pub(super) struct Exchange<T> {
    socket: UdpSocket,
    /// What the answer belongs to.
    pub(super) subject: T,
}

impl<T> Exchange<T> {
    /// Sends a question. The socket is connected, so the kernel drops what others send to it, and
    /// bound to a port of the kernel's random choice (RFC 9109).
    pub(super) fn begin(server: SocketAddr, question: &[u8], subject: T) -> io::Result<Self> {
        let any: IpAddr = match server {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let socket = UdpSocket::bind((any, 0))?;
        socket.set_nonblocking(true)?;
        socket.connect(server)?;
        socket.send(question)?;
        Ok(Self { socket, subject })
    }
}

/// Why waiting ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// All are answered, or the time is over.
    Done,
    /// A termination signal came.
    Terminated,
}

/// Waits for answers for `time` at the most. `take` says whether an answer settles its question;
/// an error of the socket (nobody listens there) settles it too.
pub(super) fn collect<T>(
    mut open: Vec<Exchange<T>>,
    time: Duration,
    termination: &Termination,
    mut take: impl FnMut(&T, &[u8]) -> bool,
) -> anyhow::Result<End> {
    let deadline = now() + time;
    let mut buffer = [0; BUFFER];
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

/// True for a termination signal.
fn wait<T>(
    open: &[Exchange<T>],
    time: Duration,
    termination: &Termination,
) -> anyhow::Result<bool> {
    let mut fds = vec![PollFd::from_borrowed_fd(termination.as_fd(), PollFlags::IN)];
    let sockets = open.iter().map(|exchange| exchange.socket.as_fd());
    fds.extend(sockets.map(|socket| PollFd::from_borrowed_fd(socket, PollFlags::IN)));
    match poll(&mut fds, Some(&Timespec::try_from(time)?)) {
        Ok(_) | Err(Errno::INTR) => Ok(!fds[0].revents().is_empty()),
        Err(error) => Err(error.into()),
    }
}
