//! One direction of a connection: bytes from one socket to the other.
//!
//! A short exchange is copied through the worker's buffer. A direction that keeps moving takes a
//! pipe and is spliced: its bytes never enter the gateway. Nothing is read before everything that
//! was read is delivered, so a slow receiver slows its sender down, and nobody else.

use rustix::fd::BorrowedFd;
use rustix::io::Errno;
use rustix::net::{SendFlags, Shutdown, send, shutdown};
use rustix::pipe::{SpliceFlags, splice};

use super::pipes::{Pipe, Pipes};

/// Bytes in a row after which a direction is spliced.
const STREAK: u32 = 192 << 10;

/// A read of less ends a streak: the direction does not keep moving.
const SMALL: usize = 4 << 10;

/// Bytes that are spliced at once.
const SPLICED: usize = 1 << 20;

/// What is known of a socket since its last event; events come once per change.
#[expect(clippy::struct_excessive_bools, reason = "facts that are independent of each other")]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Side {
    pub(super) readable: bool,
    pub(super) writable: bool,
    /// Its end has been announced: reading must go on until the end.
    pub(super) ending: bool,
    /// It was reset: nothing can be sent to it any more.
    pub(super) broken: bool,
    /// Epoll reports when it takes bytes again.
    pub(super) armed: bool,
}

/// One direction.
#[derive(Debug, Default)]
pub(super) struct Flow {
    /// Bytes that were read and not taken.
    pending: Vec<u8>,
    /// How many of them have been taken since.
    sent: usize,
    pipe: Option<Pipe>,
    in_pipe: usize,
    streak: u32,
    /// Bytes that were delivered.
    pub(super) total: u64,
    /// The source has ended.
    pub(super) ended: bool,
    /// The sink has been told so.
    pub(super) shut: bool,
}

/// What a worker lends to a flow.
#[derive(Debug)]
pub(super) struct Tools {
    pub(super) scratch: Box<[u8]>,
    pub(super) pipes: Pipes,
    /// Steps until others have their turn.
    pub(super) budget: u32,
}

/// Why a flow stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    /// Until the next event.
    Blocked,
    /// Others have their turn.
    Budget,
    /// As many bytes as were asked for have been taken.
    Limit,
    /// The source has ended, and everything is delivered.
    Ended,
}

/// Which socket broke.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Broken {
    Source,
    Sink,
}

impl Flow {
    /// Adds bytes that are to be delivered before all that is read later.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.pending.extend_from_slice(bytes);
    }

    /// Whether bytes wait for the sink.
    pub(super) const fn is_empty(&self) -> bool {
        self.pending.is_empty() && self.in_pipe == 0
    }

    /// Delivers what waits; false if the sink takes no more.
    pub(super) fn flush(
        &mut self,
        sink: BorrowedFd<'_>,
        to: &mut Side,
        pipes: &mut Pipes,
    ) -> Result<bool, Broken> {
        let done = self.deliver(sink, to);
        self.release(pipes);
        done
    }

    /// An empty pipe goes back to the others.
    fn release(&mut self, pipes: &mut Pipes) {
        if self.in_pipe == 0 {
            self.pipe.take().into_iter().for_each(|pipe| pipes.put(pipe));
        }
    }

    fn send_pending(&mut self, sink: BorrowedFd<'_>, to: &mut Side) -> Result<bool, Broken> {
        while self.sent < self.pending.len() {
            if !to.writable {
                return Ok(false);
            }
            match send(sink, &self.pending[self.sent..], SendFlags::NOSIGNAL) {
                Ok(count) => {
                    self.sent += count;
                    self.total += count as u64;
                }
                Err(Errno::AGAIN) => to.writable = false,
                Err(Errno::INTR) => {}
                Err(_) => return Err(Broken::Sink),
            }
        }
        if self.sent > 0 {
            self.sent = 0;
            // An idle connection holds no memory for bytes.
            self.pending = Vec::new();
        }
        Ok(true)
    }

    /// Moves up to `limit` bytes; returns how many were taken from the source, and why it stopped.
    pub(super) fn pump(
        &mut self,
        (source, from): (BorrowedFd<'_>, &mut Side),
        (sink, to): (BorrowedFd<'_>, &mut Side),
        limit: u64,
        tools: &mut Tools,
    ) -> (u64, Result<Stop, Broken>) {
        let mut moved = 0;
        let stop = loop {
            match self.deliver(sink, to) {
                Ok(true) => {}
                Ok(false) => break Ok(Stop::Blocked),
                Err(broken) => break Err(broken),
            }
            if self.ended {
                break Ok(Stop::Ended);
            }
            if moved >= limit {
                break Ok(Stop::Limit);
            }
            if !from.readable {
                break Ok(Stop::Blocked);
            }
            if tools.budget == 0 {
                break Ok(Stop::Budget);
            }
            tools.budget -= 1;
            match self.take((source, from), (sink, to), limit - moved, tools) {
                Ok(count) => moved += count as u64,
                Err(broken) => break Err(broken),
            }
        };
        self.release(&mut tools.pipes);
        (moved, stop)
    }

    fn deliver(&mut self, sink: BorrowedFd<'_>, to: &mut Side) -> Result<bool, Broken> {
        if !self.send_pending(sink, to)? {
            return Ok(false);
        }
        while let (true, Some(pipe)) = (self.in_pipe > 0, &self.pipe) {
            if !to.writable {
                return Ok(false);
            }
            let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
            match splice(&pipe.read, None, sink, None, self.in_pipe, flags) {
                Ok(count) => {
                    self.in_pipe -= count.min(self.in_pipe);
                    self.total += count as u64;
                }
                Err(Errno::AGAIN) => to.writable = false,
                Err(Errno::INTR) => {}
                Err(_) => return Err(Broken::Sink),
            }
        }
        Ok(true)
    }

    /// Takes bytes from the source; with a copy they are offered to the sink at once.
    fn take(
        &mut self,
        (source, from): (BorrowedFd<'_>, &mut Side),
        (sink, to): (BorrowedFd<'_>, &mut Side),
        limit: u64,
        tools: &mut Tools,
    ) -> Result<usize, Broken> {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        if self.streak >= STREAK && limit >= SMALL {
            if self.pipe.is_none() {
                self.pipe = tools.pipes.take();
            }
            if self.pipe.is_some() {
                return self.splice_in(source, from, limit);
            }
        }
        let room = limit.min(tools.scratch.len());
        match rustix::io::read(source, &mut tools.scratch[..room]) {
            Ok(0) => {
                self.ended = true;
                Ok(0)
            }
            Ok(count) => {
                // Less than there was room for: there is no more, until an event says so.
                from.readable = count == room || from.ending;
                self.streak = if count < SMALL {
                    0
                } else {
                    self.streak.saturating_add(u32::try_from(count).unwrap_or(0))
                };
                self.send(&tools.scratch[..count], sink, to)?;
                Ok(count)
            }
            Err(errno) => not_now(errno, from),
        }
    }

    fn splice_in(
        &mut self,
        source: BorrowedFd<'_>,
        from: &mut Side,
        limit: usize,
    ) -> Result<usize, Broken> {
        let Some(pipe) = &self.pipe else { return Ok(0) };
        let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
        match splice(source, None, &pipe.write, None, limit.min(SPLICED), flags) {
            Ok(0) => {
                self.ended = true;
                Ok(0)
            }
            Ok(count) => {
                if count < SMALL {
                    self.streak = 0;
                }
                self.in_pipe += count;
                Ok(count)
            }
            Err(errno) => not_now(errno, from),
        }
    }

    /// Sends, and keeps what is not taken.
    fn send(&mut self, bytes: &[u8], sink: BorrowedFd<'_>, to: &mut Side) -> Result<(), Broken> {
        let mut count = 0;
        if to.writable {
            match send(sink, bytes, SendFlags::NOSIGNAL) {
                Ok(sent) => count = sent,
                Err(Errno::AGAIN) => to.writable = false,
                Err(Errno::INTR) => {}
                Err(_) => return Err(Broken::Sink),
            }
        }
        self.total += count as u64;
        self.pending.extend_from_slice(&bytes[count..]);
        Ok(())
    }

    /// Tells the sink that no more comes, once everything is delivered.
    pub(super) fn shut(&mut self, sink: BorrowedFd<'_>) {
        if self.ended && self.is_empty() && !self.shut {
            // Fails only where the other side is gone already.
            let _ = shutdown(sink, Shutdown::Write);
            self.shut = true;
        }
    }

    /// Drops what was not delivered.
    pub(super) fn clear(&mut self, pipes: &mut Pipes) {
        self.pending = Vec::new();
        self.sent = 0;
        if let Some(pipe) = self.pipe.take() {
            if self.in_pipe == 0 {
                pipes.put(pipe);
            } else {
                drop(pipe);
                pipes.lost();
            }
        }
        self.in_pipe = 0;
    }
}

fn not_now(errno: Errno, from: &mut Side) -> Result<usize, Broken> {
    match errno {
        Errno::AGAIN => {
            from.readable = false;
            Ok(0)
        }
        Errno::INTR => Ok(0),
        _ => Err(Broken::Source),
    }
}
