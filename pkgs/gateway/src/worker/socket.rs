//! A socket with its readiness.
//!
//! Epoll reports a socket once per change (edge-triggered), so the readiness is remembered here and
//! corrected whenever a system call would block.

use rustix::event::epoll::{self, EventFlags};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::{Errno, retry_on_intr};
use rustix::net::{SendFlags, Shutdown, send, shutdown, sockopt};
use rustix::pipe::{SpliceFlags, splice};

/// Events that are always reported.
pub(super) const ALWAYS: EventFlags = EventFlags::IN.union(EventFlags::RDHUP).union(EventFlags::ET);

const SPLICE: SpliceFlags = SpliceFlags::MOVE.union(SpliceFlags::NONBLOCK);

/// A non-blocking stream socket.
#[expect(clippy::struct_excessive_bools, reason = "facts that are independent of each other")]
#[derive(Debug)]
pub(super) struct Socket {
    fd: OwnedFd,
    readable: bool,
    writable: bool,
    /// Epoll has reported that the peer stopped sending: the socket must be read to the end.
    ending: bool,
    /// The peer has reset the connection: nothing more can be sent.
    broken: bool,
    /// Epoll reports when the socket can be written to again.
    armed: bool,
}

/// The result of a read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Read {
    /// This many bytes, at least one.
    Bytes(usize),
    /// The peer has stopped sending.
    End,
    /// Nothing before the next event.
    Nothing,
}

impl Socket {
    /// Wraps an accepted socket. Bytes may already be waiting, and the send buffer is empty.
    pub(super) const fn accepted(fd: OwnedFd) -> Self {
        let (readable, writable) = (true, true);
        Self { fd, readable, writable, ending: false, broken: false, armed: false }
    }

    /// Wraps a connecting socket. It counts as writable, because a first send is a cheap test of the
    /// connection and succeeds at once over loopback.
    pub(super) const fn connecting(fd: OwnedFd) -> Self {
        let (readable, writable) = (false, true);
        Self { fd, readable, writable, ending: false, broken: false, armed: false }
    }

    /// Starts again after a change of the events that epoll reports.
    pub(super) fn adopted(mut self) -> Self {
        (self.readable, self.armed) = (true, false);
        self
    }

    /// Records an event.
    pub(super) const fn event(&mut self, flags: EventFlags) {
        let broken = flags.intersects(EventFlags::ERR.union(EventFlags::HUP));
        self.broken |= flags.contains(EventFlags::ERR);
        self.ending |= broken || flags.contains(EventFlags::RDHUP);
        self.readable |= self.ending || flags.contains(EventFlags::IN);
        self.writable |= broken || flags.contains(EventFlags::OUT);
    }

    /// Makes epoll report when a full socket can be written to again.
    pub(super) fn arm(
        &mut self,
        epoll: &OwnedFd,
        data: epoll::EventData,
    ) -> rustix::io::Result<()> {
        if !self.writable && !self.armed {
            epoll::modify(epoll, &self.fd, data, ALWAYS | EventFlags::OUT)?;
            self.armed = true;
        }
        Ok(())
    }

    pub(super) const fn is_readable(&self) -> bool {
        self.readable
    }

    pub(super) const fn is_writable(&self) -> bool {
        self.writable
    }

    pub(super) const fn is_ending(&self) -> bool {
        self.ending
    }

    pub(super) const fn is_broken(&self) -> bool {
        self.broken
    }

    /// Reads again even without an event, because a failed send suggests that the peer has closed.
    pub(super) const fn read_again(&mut self) {
        self.readable = true;
    }

    /// Reads into a buffer.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> Result<Read, Errno> {
        match retry_on_intr(|| rustix::io::read(&self.fd, &mut *buffer)) {
            Ok(0) => Ok(Read::End),
            Ok(count) => {
                // After a short read the socket is empty until the next event.
                self.readable = count == buffer.len() || self.ending;
                Ok(Read::Bytes(count))
            }
            Err(errno) => self.not_readable(errno),
        }
    }

    /// Moves at most `most` bytes into a pipe.
    pub(super) fn splice_to(&mut self, pipe: &OwnedFd, most: usize) -> Result<Read, Errno> {
        match retry_on_intr(|| splice(&self.fd, None, pipe, None, most, SPLICE)) {
            Ok(0) => Ok(Read::End),
            Ok(count) => Ok(Read::Bytes(count)),
            Err(errno) => self.not_readable(errno),
        }
    }

    const fn not_readable(&mut self, errno: Errno) -> Result<Read, Errno> {
        match errno {
            Errno::AGAIN => {
                self.readable = false;
                Ok(Read::Nothing)
            }
            errno => Err(errno),
        }
    }

    /// Sends bytes; returns the number accepted, 0 if the socket is full.
    pub(super) fn send(&mut self, bytes: &[u8]) -> Result<usize, Errno> {
        if !self.writable {
            return Ok(0);
        }
        self.written(retry_on_intr(|| send(&self.fd, bytes, SendFlags::NOSIGNAL)))
    }

    /// Moves at most `most` bytes out of a pipe; returns their number, 0 if the socket is full.
    pub(super) fn splice_from(&mut self, pipe: &OwnedFd, most: usize) -> Result<usize, Errno> {
        self.written(retry_on_intr(|| splice(pipe, None, &self.fd, None, most, SPLICE)))
    }

    const fn written(&mut self, result: Result<usize, Errno>) -> Result<usize, Errno> {
        match result {
            Err(Errno::AGAIN) => {
                self.writable = false;
                Ok(0)
            }
            other => other,
        }
    }

    /// Sends on a socket that may not be connected yet; returns `None` until it is.
    pub(super) fn send_first(&mut self, bytes: &[u8]) -> Result<Option<usize>, Errno> {
        if !self.writable {
            return Ok(None);
        }
        match retry_on_intr(|| send(&self.fd, bytes, SendFlags::NOSIGNAL)) {
            Ok(count) => Ok(Some(count)),
            Err(Errno::AGAIN | Errno::INPROGRESS | Errno::NOTCONN) => {
                self.writable = false;
                Ok(None)
            }
            Err(errno) => Err(errno),
        }
    }

    /// Closes the sending side.
    pub(super) fn end_sending(&self) {
        // Fails only if the peer is already gone.
        let _ = shutdown(&self.fd, Shutdown::Write);
    }

    /// Turns the coming close into a reset, so that the peer does not mistake it for an orderly end.
    pub(super) fn reset_on_close(&self) {
        let _ = sockopt::set_socket_linger(&self.fd, Some(std::time::Duration::ZERO));
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
