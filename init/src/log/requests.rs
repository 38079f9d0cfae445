//! Requests that the writer's thread finds in kubelet's log, on their way to the main loop.

use std::os::fd::OwnedFd;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use anyhow::{Context, Result};
use rustix::pipe::{PipeFlags, pipe_with};

use crate::kubelet::report::Request;

/// The number of requests that wait. More of them would ask for the same.
const WAITING_MAX: usize = 16;

/// The writer's end.
pub struct Sender {
    requests: SyncSender<Request>,
    wake: OwnedFd,
}

/// The main loop's end: a pipe that becomes readable, and the requests.
pub type Requests = (OwnedFd, Receiver<Request>);

/// Makes both ends.
pub fn channel() -> Result<(Sender, Requests)> {
    let flags = PipeFlags::CLOEXEC | PipeFlags::NONBLOCK;
    let (read, wake) = pipe_with(flags).context("cannot make a pipe")?;
    let (requests, receiver) = sync_channel(WAITING_MAX);
    Ok((Sender { requests, wake }, (read, receiver)))
}

impl Sender {
    /// Sends a request and wakes the loop. Never waits.
    pub fn send(&self, request: Request) {
        let _ = self.requests.try_send(request);
        let _ = rustix::io::write(&self.wake, &[0]);
    }
}
