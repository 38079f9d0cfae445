//! A bounded pool of empty pipes, for directions that are being spliced.
//!
//! A pipe belongs to a direction only while bytes are in it. An idle pool gives its pipes back.

use rustix::fd::OwnedFd;
use rustix::pipe::{PipeFlags, fcntl_setpipe_size, pipe_with};

/// Bytes of a pipe. The kernel may refuse so much to a user who has many; the pipe then is smaller.
const SIZE: usize = 256 << 10;

/// Pipes that are kept when none is in use.
const KEPT: usize = 4;

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
}

impl Pipes {
    pub(super) const fn new(most: usize) -> Self {
        Self { free: Vec::new(), made: 0, most }
    }

    /// An empty pipe; `None` if there are too many, or the kernel makes none.
    pub(super) fn take(&mut self) -> Option<Pipe> {
        if let Some(pipe) = self.free.pop() {
            return Some(pipe);
        }
        if self.made >= self.most {
            return None;
        }
        let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).ok()?;
        // Above the user's limit a new pipe has one or two pages, which is worse than a copy.
        let size =
            fcntl_setpipe_size(&write, SIZE).or_else(|_| fcntl_setpipe_size(&write, 64 << 10));
        size.ok().filter(|size| *size >= 64 << 10)?;
        self.made += 1;
        Some(Pipe { read, write })
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
