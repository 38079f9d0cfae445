//! A bounded pool of empty pipes, for directions that are being spliced.
//!
//! A pipe belongs to a direction only while bytes are in it. An idle pool gives its pipes back.

use rustix::fd::OwnedFd;
use rustix::pipe::{PipeFlags, fcntl_setpipe_size, pipe_with};

/// Bytes of a pipe. The kernel may refuse so much to a user who has many; the pipe then is smaller.
const SIZE: usize = 256 << 10;

/// Bytes of a pipe that is still better than a copy.
const LEAST: usize = 64 << 10;

/// Pipes that are kept when none is in use.
const KEPT: usize = 4;

/// Requests that are answered with nothing after the kernel made no pipe: asking it each time would
/// double the price of a copy.
const REFUSALS: u32 = 64;

/// A pipe.
#[derive(Debug)]
pub(super) struct Pipe {
    pub(super) read: OwnedFd,
    pub(super) write: OwnedFd,
}

/// Empty pipes.
#[derive(Debug)]
pub(super) struct Pipes {
    free: Vec<Pipe>,
    made: usize,
    most: usize,
    /// So many requests more get nothing.
    refused: u32,
}

impl Pipes {
    pub(super) const fn new(most: usize) -> Self {
        Self { free: Vec::new(), made: 0, most, refused: 0 }
    }

    /// An empty pipe; `None` if there are too many, or the kernel makes none.
    pub(super) fn take(&mut self) -> Option<Pipe> {
        if let Some(pipe) = self.free.pop() {
            return Some(pipe);
        }
        self.refused = self.refused.saturating_sub(1);
        if self.made >= self.most || self.refused > 0 {
            return None;
        }
        let pipe = make();
        match pipe {
            Some(_) => self.made += 1,
            None => self.refused = REFUSALS,
        }
        pipe
    }

    /// Takes an empty pipe back.
    pub(super) fn put(&mut self, pipe: Pipe) {
        self.free.push(pipe);
    }

    /// A pipe was closed with bytes in it.
    pub(super) const fn lost(&mut self) {
        self.made -= 1;
    }

    /// Closes those that have not been needed.
    pub(super) fn trim(&mut self) {
        if self.free.len() > KEPT {
            self.made -= self.free.len() - KEPT;
            self.free.truncate(KEPT);
        }
    }
}

/// A new pipe, if the kernel gives one that is worth it (pipe(7), `pipe-user-pages-soft`).
fn make() -> Option<Pipe> {
    let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).ok()?;
    // Above the user's limit a new pipe has one or two pages, which is worse than a copy.
    let size = fcntl_setpipe_size(&write, SIZE).or_else(|_| fcntl_setpipe_size(&write, LEAST));
    size.ok().filter(|size| *size >= LEAST)?;
    Some(Pipe { read, write })
}
