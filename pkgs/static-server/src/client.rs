//! A client's socket with its protocol state: the I/O that [`Connection`] asks for.

use std::io::IoSlice;
use std::time::Instant;

use rustix::event::epoll::{self, EventFlags};
use rustix::fd::OwnedFd;
use rustix::fs::sendfile;
use rustix::io::Errno;
use rustix::ioctl::{Getter, ioctl};
use rustix::net::{
    RecvFlags, SendAncillaryBuffer, SendFlags, Shutdown, recv, send, sendmsg, shutdown,
};

use crate::connection::sending::{Output, Sending};
use crate::connection::{Connection, Context, Want};

/// The most reads and writes of one connection before it is other connections' turn.
const TRANSFERS_MAX: usize = 16;

/// A longer file is sent in pieces, and other connections get a turn after each piece. A client on
/// the same machine that gets the whole file at once seems to be woken for every packet; with this
/// size the cost is both low and stable (docs/benchmarks.md).
const PIECE: usize = 256 << 10;

/// A write of this many bytes ends the turn of its connection.
const TURN: usize = 64 << 10;

/// The most bytes of one read, into a buffer that all connections of a worker share.
pub(crate) const READ_SIZE: usize = 16 << 10;

/// An answer of up to this many bytes is copied into one buffer before it is written, because the
/// copy is cheaper than writing four pieces.
const TOGETHER: usize = 4 << 10;

/// The worker's tools for the connection whose turn it is.
pub(crate) struct Tools<'a> {
    pub(crate) context: &'a Context<'a>,
    /// A buffer of [`READ_SIZE`] bytes.
    pub(crate) buffer: &'a mut [u8],
    /// Receives every finished answer.
    pub(crate) finished: &'a mut dyn FnMut(&OwnedFd, Box<Sending>),
}

/// A client.
#[derive(Debug)]
pub(crate) struct Client {
    socket: OwnedFd,
    pub(crate) connection: Connection,
    /// The events that epoll reports for the socket; empty before the socket is added to the epoll.
    /// The socket of a client that sends one request and gets its answer at once is never added.
    interest: EventFlags,
    /// True for a connection to the operators' port.
    pub(crate) is_operator: bool,
    /// Bytes written.
    sent: u64,
    /// The number of written bytes that the client had acknowledged at the last check.
    taken: u64,
}

impl Client {
    /// Takes an accepted socket.
    pub(crate) fn new(socket: OwnedFd, is_operator: bool, context: &Context<'_>) -> Self {
        Self {
            socket,
            connection: Connection::new(context),
            interest: EventFlags::empty(),
            is_operator,
            sent: 0,
            taken: 0,
        }
    }

    /// Reads and writes until the socket has nothing more, or until it is other connections' turn.
    /// Returns false at the end of the connection.
    pub(crate) fn serve(&mut self, tools: &mut Tools<'_>) -> bool {
        for _ in 0..TRANSFERS_MAX {
            match self.once(tools) {
                Ok(true) | Err(Errno::INTR) => {}
                Ok(false) | Err(Errno::AGAIN) => break,
                Err(error) => {
                    tracing::debug!("a connection broke: {error}");
                    return false;
                }
            }
        }
        self.connection.want(tools.context) != Want::Close
    }

    /// Does one read or write; returns false if nothing more can be done at once.
    fn once(&mut self, tools: &mut Tools<'_>) -> Result<bool, Errno> {
        let context = tools.context;
        let connection = &mut self.connection;
        match connection.want(context) {
            Want::Read(room) => {
                let room = room.min(tools.buffer.len());
                let (count, _) = recv(&self.socket, &mut tools.buffer[..room], RecvFlags::empty())?;
                connection.received(&tools.buffer[..count], context);
                Ok(!matches!(connection.want(context), Want::Read(_)))
            }
            Want::Write => {
                let Some(count) = write(&self.socket, &connection.output(), tools.buffer)? else {
                    connection.cut();
                    return Ok(false);
                };
                self.sent += count as u64;
                if let Some(sending) = connection.sent(count, context) {
                    (tools.finished)(&self.socket, sending);
                }
                Ok(count < TURN && !matches!(connection.want(context), Want::Read(_)))
            }
            Want::HalfClose => {
                shutdown(&self.socket, Shutdown::Write)?;
                connection.half_closed(context);
                Ok(true)
            }
            Want::Discard => {
                connection.discarded(rustix::io::read(&self.socket, &mut *tools.buffer)?);
                Ok(true)
            }
            Want::Close => Ok(false),
        }
    }

    /// Asks epoll to report the socket by its index when it is ready for the next action; returns
    /// false if that fails.
    pub(crate) fn follow(&mut self, epoll: &OwnedFd, index: usize, context: &Context<'_>) -> bool {
        let interest = match self.connection.want(context) {
            Want::Write | Want::HalfClose => EventFlags::OUT,
            _ => EventFlags::IN,
        };
        if interest == self.interest {
            return true;
        }
        let is_new = self.interest.is_empty();
        self.interest = interest;
        let data = epoll::EventData::new_u64(index as u64);
        if is_new {
            epoll::add(epoll, &self.socket, data, interest).is_ok()
        } else {
            epoll::modify(epoll, &self.socket, data, interest).is_ok()
        }
    }

    /// Handles an expired deadline. A client that has acknowledged bytes since the last check gets
    /// more time: bytes that arrived at the client count, bytes in the kernel's buffer do not.
    pub(crate) fn expired(&mut self, context: &Context<'_>) {
        let waiting = unacknowledged(&self.socket);
        let taken = self.sent.saturating_sub(waiting);
        let reads = waiting > 0 && taken > self.taken;
        self.taken = taken;
        // Between two requests the last answer may still be in the kernel's buffer, too.
        let is_idle = self.connection.waiting_since().is_some() && self.connection.held() == 0;
        if reads && (self.connection.is_answering() || is_idle) {
            self.connection.progressed(context);
        } else {
            self.connection.expired(context);
        }
    }

    pub(crate) const fn deadline(&self) -> Instant {
        self.connection.deadline()
    }
}

/// Writes the output and returns the number of bytes written; `None` if the file has become
/// shorter.
fn write(socket: &OwnedFd, output: &Output<'_>, buffer: &mut [u8]) -> Result<Option<usize>, Errno> {
    let text: usize = output.slices.iter().map(|slice| slice.len()).sum();
    let Some(file) = &output.file else {
        return match buffer.get_mut(..text).filter(|_| text <= TOGETHER) {
            Some(buffer) => send(socket, join(&output.slices, buffer), SendFlags::NOSIGNAL),
            None => rustix::io::writev(socket, &output.slices),
        }
        .map(Some);
    };
    if text > 0 {
        // The kernel waits for the file's bytes before it sends a packet.
        let flags = SendFlags::MORE | SendFlags::NOSIGNAL;
        let mut no_control = SendAncillaryBuffer::default();
        return sendmsg(socket, &output.slices, &mut no_control, flags).map(Some);
    }
    let mut offset = file.offset;
    let len = usize::try_from(file.len).unwrap_or(PIECE).min(PIECE);
    match sendfile(socket, file.fd, Some(&mut offset), len)? {
        0 => Ok(None),
        count => Ok(Some(count)),
    }
}

/// Copies slices into one buffer, which must be large enough for all of them.
fn join<'a>(slices: &[IoSlice<'_>], buffer: &'a mut [u8]) -> &'a [u8] {
    let mut rest = &mut *buffer;
    for slice in slices {
        let (here, after) = rest.split_at_mut(slice.len());
        here.copy_from_slice(slice);
        rest = after;
    }
    buffer
}

/// Returns the bytes that the client has not acknowledged yet (`SIOCOUTQ` of tcp(7), which is
/// `TIOCOUTQ`).
fn unacknowledged(socket: &OwnedFd) -> u64 {
    // SAFETY: `TIOCOUTQ` writes one `int`.
    let getter = unsafe { Getter::<0x5411, i32>::new() };
    // SAFETY: the descriptor is a socket, and the getter has room for the result.
    let count = unsafe { ioctl(socket, getter) };
    count.ok().and_then(|count| u64::try_from(count).ok()).unwrap_or(0)
}
