//! A bounded pool of empty pipes for directions that are being spliced.
//!
//! A direction has a pipe only while the pipe holds bytes. An idle pool closes most of its pipes.

use rustix::fd::OwnedFd;
use rustix::pipe::{PipeFlags, fcntl_setpipe_size, pipe_with};

/// The wanted size of a pipe in bytes. A pipe is smaller if its user already has many pipes.
const PIPE_BYTES: usize = 256 << 10;

/// The size in bytes below which a pipe is worse than a copy.
const PIPE_BYTES_MIN: usize = 64 << 10;

/// The number of pipes that an idle pool keeps.
const KEPT_MAX: usize = 4;

/// Requests that are refused without a system call after the kernel has refused a pipe, because a
/// failed attempt for each copy would double the cost of copying.
const REFUSALS: u32 = 64;

/// A pipe.
#[derive(Debug)]
pub(super) struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
}

impl Pipe {
    /// The end that is written to.
    pub(super) const fn input(&self) -> &OwnedFd {
        &self.write
    }

    /// The end that is read from.
    pub(super) const fn output(&self) -> &OwnedFd {
        &self.read
    }
}

/// Empty pipes.
#[derive(Debug)]
pub(super) struct Pipes {
    free: Vec<Pipe>,
    made: usize,
    most: usize,
    /// The number of requests that are still refused without a system call.
    refused: u32,
}

impl Pipes {
    /// Creates a pool of at most `most` pipes.
    pub(super) const fn new(most: usize) -> Self {
        Self { free: Vec::new(), made: 0, most, refused: 0 }
    }

    /// Returns an empty pipe; `None` if the limit is reached or the kernel refuses a pipe.
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

    /// Counts a pipe that was closed because it still held bytes.
    pub(super) const fn lost(&mut self) {
        self.made -= 1;
    }

    /// Closes pipes that have not been needed.
    pub(super) fn trim(&mut self) {
        if self.free.len() > KEPT_MAX {
            self.made -= self.free.len() - KEPT_MAX;
            self.free.truncate(KEPT_MAX);
        }
    }
}

/// Creates a pipe, if the kernel grants a size that makes splicing worthwhile (pipe(7),
/// `pipe-user-pages-soft`).
fn make() -> Option<Pipe> {
    let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).ok()?;
    // Above the user's limit a new pipe has one or two pages, which is worse than a copy.
    let size = fcntl_setpipe_size(&write, PIPE_BYTES)
        .or_else(|_| fcntl_setpipe_size(&write, PIPE_BYTES_MIN));
    size.ok().filter(|size| *size >= PIPE_BYTES_MIN)?;
    Some(Pipe { read, write })
}
