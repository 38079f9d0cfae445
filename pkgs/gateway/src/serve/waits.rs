//! The sockets that the control thread waits for.

use std::os::fd::BorrowedFd;

use anyhow::Context as _;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

/// The maximum wait in milliseconds, even without a deadline, so that a clock that jumps cannot stop
/// the control thread.
const WAIT_MAX: u64 = 60_000;

/// Sockets, each with the events to wait for.
#[derive(Debug, Default)]
pub(super) struct Waits<'a>(Vec<PollFd<'a>>);

impl<'a> Waits<'a> {
    /// Adds a socket that is waited for until it can be read.
    pub(super) fn read(&mut self, socket: BorrowedFd<'a>) {
        self.0.push(PollFd::from_borrowed_fd(socket, PollFlags::IN));
    }

    /// Adds a socket that is waited for until it can be written to.
    pub(super) fn write(&mut self, socket: BorrowedFd<'a>) {
        self.0.push(PollFd::from_borrowed_fd(socket, PollFlags::OUT));
    }

    /// Waits for an event, at most this many milliseconds; `None` is no deadline.
    pub(super) fn wait(mut self, millis: Option<u64>) -> anyhow::Result<()> {
        let time = std::time::Duration::from_millis(millis.unwrap_or(WAIT_MAX).min(WAIT_MAX));
        match poll(&mut self.0, Some(&kiln_base::time::timespec(time))) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(errno) => Err(errno).context("cannot wait for events"),
        }
    }
}
