//! Accepting clients, and the pause while there is no room for them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rustix::event::epoll;
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::{SocketFlags, acceptfrom_with};

use crate::limits::{self, LogLimit};
use crate::state::{Shared, Snapshot};

/// Milliseconds of a pause when there is no room for new connections.
const PAUSE: u64 = 100;

static NO_ROOM: LogLimit = LogLimit::new();

/// The listening sockets of a worker.
#[derive(Debug, Default)]
pub(super) struct Acceptor {
    /// Sockets that epoll reports.
    listening: Vec<Arc<OwnedFd>>,
    /// The end of the current pause, in milliseconds.
    paused: Option<u64>,
}

/// The result of accepting.
#[derive(Debug)]
pub(super) enum Accepted {
    Client(OwnedFd, SocketAddr),
    /// A connection that failed before it was accepted.
    Failed,
    /// No client is waiting, or there is no room.
    Nothing,
}

impl Acceptor {
    /// Makes epoll report the listeners of a snapshot, and no others.
    pub(super) fn open(&mut self, epoll: &OwnedFd, snapshot: &Snapshot) {
        self.close(epoll);
        if self.paused.is_some() {
            return;
        }
        for (index, socket) in snapshot.sockets.iter().enumerate() {
            let data = epoll::EventData::new_u64(index as u64);
            let flags = epoll::EventFlags::IN | epoll::EventFlags::EXCLUSIVE;
            if let Err(errno) = epoll::add(epoll, socket, data, flags) {
                tracing::error!("cannot wait for a listener: {errno}");
            }
            self.listening.push(Arc::clone(socket));
        }
    }

    /// Makes epoll report no listener.
    pub(super) fn close(&mut self, epoll: &OwnedFd) {
        for socket in std::mem::take(&mut self.listening) {
            // Fails if a pause has already removed the socket.
            let _ = epoll::delete(epoll, &socket);
        }
    }

    /// Returns the number of listeners that epoll reports.
    pub(super) const fn len(&self) -> usize {
        self.listening.len()
    }

    /// Accepts one client; begins a pause if there is no room.
    pub(super) fn accept(&mut self, listener: usize, shared: &Shared, now: u64) -> Accepted {
        let Some(socket) = self.listening.get(listener) else { return Accepted::Nothing };
        if shared.counters.open.load(Ordering::Relaxed) >= shared.limits.connections_max {
            self.pause(shared, now, "the maximum number of connections is open");
            return Accepted::Nothing;
        }
        match acceptfrom_with(socket, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
            Ok((client, peer)) => {
                let peer = peer.and_then(|peer| SocketAddr::try_from(peer).ok());
                peer.map_or(Accepted::Failed, |peer| Accepted::Client(client, peer))
            }
            Err(Errno::AGAIN) => Accepted::Nothing,
            Err(errno) if limits::is_exhausted(errno) => {
                self.pause(shared, now, "no descriptors or memory are left");
                Accepted::Nothing
            }
            // Errors of the connection that was about to be accepted (accept(2)).
            Err(_) => Accepted::Failed,
        }
    }

    /// Leaves new connections in the kernel's queue for a moment. Without a pause the worker would
    /// spin, because the listener stays readable.
    fn pause(&mut self, shared: &Shared, now: u64, why: &str) {
        shared.counters.pauses.fetch_add(1, Ordering::Relaxed);
        if let Some(more) = NO_ROOM.pass(now) {
            let open = shared.counters.open.load(Ordering::Relaxed);
            tracing::warn!(open, more, "paused accepting connections: {why}");
        }
        self.paused = Some(now + PAUSE);
    }

    /// True while new connections are left in the kernel's queue.
    pub(super) const fn is_paused(&self) -> bool {
        self.paused.is_some()
    }

    /// Returns the end of the pause.
    pub(super) const fn paused_until(&self) -> Option<u64> {
        self.paused
    }

    /// Ends the pause, because a connection has ended.
    pub(super) fn end_pause(&mut self, now: u64) {
        if self.paused.is_some() {
            self.paused = Some(now);
        }
    }

    /// True if the pause has just ended and the listeners must be opened again.
    pub(super) fn resumes(&mut self, now: u64) -> bool {
        self.paused.take_if(|until| *until <= now).is_some()
    }
}
