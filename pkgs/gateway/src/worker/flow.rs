//! One direction of a connection: bytes from one socket to the other.
//!
//! A short exchange is copied through the worker's buffer. A direction with a steady flow takes a
//! pipe and is spliced: its bytes never enter the gateway. New bytes are read only when all earlier
//! bytes are delivered, so a slow receiver slows down its own sender and no other connection.

use rustix::io::Errno;

use super::pipes::{Pipe, Pipes};
use super::socket::{Read, Socket};
use super::tools::Tools;

/// Bytes in a streak after which a direction is spliced.
const STREAK_BYTES: u32 = 192 << 10;

/// A read of fewer bytes ends a streak, because the flow is not steady.
const SMALL_BYTES: usize = 4 << 10;

/// The most bytes that one system call splices.
const SPLICE_BYTES_MAX: usize = 1 << 20;

/// One direction.
#[derive(Debug, Default)]
pub(super) struct Flow {
    /// Bytes that were read and that the sink has not accepted.
    pending: Vec<u8>,
    /// The number of pending bytes that the sink has accepted since.
    sent: usize,
    pipe: Option<Pipe>,
    in_pipe: usize,
    streak: u32,
    /// Bytes that were delivered.
    total: u64,
    /// The source has ended.
    ended: bool,
    /// The source's end was passed on to the sink.
    shut: bool,
}

/// The reason why a flow stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    /// Nothing can be moved before the next event.
    Blocked,
    /// It is other connections' turn.
    Budget,
    /// The requested number of bytes was taken from the source.
    Limit,
    /// The source has ended, and everything is delivered.
    Ended,
}

/// The socket that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Broken {
    Source,
    Sink,
}

impl Flow {
    /// Adds bytes to be delivered before any bytes that are read later.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.pending.extend_from_slice(bytes);
    }

    /// Removes the pending bytes that were not sent.
    pub(super) fn take_pending(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.pending)
    }

    /// True if no bytes are waiting for the sink.
    pub(super) const fn is_empty(&self) -> bool {
        self.pending.is_empty() && self.in_pipe == 0
    }

    /// Returns the number of bytes that were delivered.
    pub(super) const fn total(&self) -> u64 {
        self.total
    }

    /// Counts bytes that were delivered outside the flow.
    pub(super) const fn add_total(&mut self, count: u64) {
        self.total += count;
    }

    /// True once the source has ended.
    pub(super) const fn has_ended(&self) -> bool {
        self.ended
    }

    /// Lets the direction end after the pending bytes.
    pub(super) const fn end(&mut self) {
        self.ended = true;
    }

    /// Starts over for another peer: nothing is delivered and nothing is pending.
    pub(super) fn restart(&mut self, pipes: &mut Pipes) {
        self.clear(pipes);
        self.total = 0;
        self.ended = false;
    }

    /// Delivers the pending bytes; returns false if the sink is full.
    pub(super) fn flush(&mut self, sink: &mut Socket, pipes: &mut Pipes) -> Result<bool, Broken> {
        let done = self.deliver(sink);
        self.release(pipes);
        done
    }

    /// Returns an empty pipe to the pool.
    fn release(&mut self, pipes: &mut Pipes) {
        if self.in_pipe == 0 {
            self.pipe.take().into_iter().for_each(|pipe| pipes.put(pipe));
        }
    }

    /// Moves up to `limit` bytes; returns the number taken from the source, and the reason to stop.
    pub(super) fn pump(
        &mut self,
        source: &mut Socket,
        sink: &mut Socket,
        limit: u64,
        tools: &mut Tools,
    ) -> (u64, Result<Stop, Broken>) {
        let mut moved = 0;
        let stop = loop {
            match self.deliver(sink) {
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
            if !source.is_readable() {
                break Ok(Stop::Blocked);
            }
            if tools.budget == 0 {
                break Ok(Stop::Budget);
            }
            tools.budget -= 1;
            match self.take(source, sink, limit - moved, tools) {
                Ok(count) => moved += count as u64,
                Err(broken) => break Err(broken),
            }
        };
        self.release(&mut tools.pipes);
        (moved, stop)
    }

    /// Delivers the pending bytes, then the bytes in the pipe; returns false if the sink is full.
    fn deliver(&mut self, sink: &mut Socket) -> Result<bool, Broken> {
        if !self.send_pending(sink)? {
            return Ok(false);
        }
        while let (true, Some(pipe)) = (self.in_pipe > 0, &self.pipe) {
            if !sink.is_writable() {
                return Ok(false);
            }
            let count = sink.splice_from(pipe.output(), self.in_pipe).map_err(sink_broke)?;
            self.in_pipe -= count.min(self.in_pipe);
            self.total += count as u64;
        }
        Ok(true)
    }

    fn send_pending(&mut self, sink: &mut Socket) -> Result<bool, Broken> {
        while self.sent < self.pending.len() {
            if !sink.is_writable() {
                return Ok(false);
            }
            let count = sink.send(&self.pending[self.sent..]).map_err(sink_broke)?;
            self.sent += count;
            self.total += count as u64;
        }
        if self.sent > 0 {
            self.sent = 0;
            // An idle connection holds no buffer.
            self.pending = Vec::new();
        }
        Ok(true)
    }

    /// Takes bytes from the source. Copied bytes are offered to the sink at once.
    fn take(
        &mut self,
        source: &mut Socket,
        sink: &mut Socket,
        limit: u64,
        tools: &mut Tools,
    ) -> Result<usize, Broken> {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        if self.streak >= STREAK_BYTES && limit >= SMALL_BYTES {
            if self.pipe.is_none() {
                self.pipe = tools.pipes.take();
            }
            if self.pipe.is_some() {
                return self.splice_in(source, limit);
            }
        }
        let room = limit.min(tools.scratch.len());
        match source.read(&mut tools.scratch[..room]).map_err(source_broke)? {
            Read::Bytes(count) => {
                self.note_read(count);
                self.send(&tools.scratch[..count], sink)?;
                Ok(count)
            }
            Read::End => {
                self.ended = true;
                Ok(0)
            }
            Read::Nothing => Ok(0),
        }
    }

    /// Lengthens the streak, or ends it after a small read.
    fn note_read(&mut self, count: usize) {
        self.streak = if count < SMALL_BYTES {
            0
        } else {
            self.streak.saturating_add(u32::try_from(count).unwrap_or(0))
        };
    }

    fn splice_in(&mut self, source: &mut Socket, limit: usize) -> Result<usize, Broken> {
        let Some(pipe) = &self.pipe else { return Ok(0) };
        let most = limit.min(SPLICE_BYTES_MAX);
        match source.splice_to(pipe.input(), most).map_err(source_broke)? {
            Read::Bytes(count) => {
                if count < SMALL_BYTES {
                    self.streak = 0;
                }
                self.in_pipe += count;
                Ok(count)
            }
            Read::End => {
                self.ended = true;
                Ok(0)
            }
            Read::Nothing => Ok(0),
        }
    }

    /// Sends bytes, and keeps those that the sink does not accept.
    fn send(&mut self, bytes: &[u8], sink: &mut Socket) -> Result<(), Broken> {
        let count = sink.send(bytes).map_err(sink_broke)?;
        self.total += count as u64;
        self.pending.extend_from_slice(&bytes[count..]);
        Ok(())
    }

    /// Passes the source's end on to the sink, once everything is delivered.
    pub(super) fn shut(&mut self, sink: &Socket) {
        if self.ended && self.is_empty() && !self.shut {
            sink.end_sending();
            self.shut = true;
        }
    }

    /// Drops the bytes that were not delivered.
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

const fn source_broke(_: Errno) -> Broken {
    Broken::Source
}

const fn sink_broke(_: Errno) -> Broken {
    Broken::Sink
}
