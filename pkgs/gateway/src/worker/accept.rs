//! New connections, and when there are too many of them.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use rustix::event::epoll;
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::{SocketFlags, acceptfrom_with};

use super::connection::{Connection, Phase};
use super::{Step, Worker};
use crate::limits::Seldom;

/// Connections that are taken at once before those that are open have their turn.
const ACCEPTS: usize = 64;

/// Milliseconds without new connections when there is no room for them.
const PAUSE: u64 = 100;

static NO_ROOM: Seldom = Seldom::new();

impl Worker {
    /// Waits for the listeners of the configuration in force, and no others.
    pub(super) fn listen(&mut self) {
        for socket in std::mem::take(&mut self.listening) {
            // Fails where the pause took it out already.
            let _ = epoll::delete(&self.epoll, &socket);
        }
        if self.draining || self.paused.is_some() {
            return;
        }
        for (index, socket) in self.snapshot.sockets.iter().enumerate() {
            let data = epoll::EventData::new_u64(index as u64);
            let flags = epoll::EventFlags::IN | epoll::EventFlags::EXCLUSIVE;
            match epoll::add(&self.epoll, socket, data, flags) {
                Ok(()) => {}
                Err(errno) => tracing::error!("a listener cannot be waited for: {errno}"),
            }
            self.listening.push(Arc::clone(socket));
        }
    }

    /// Takes those who wait, some at once so that others have their turn.
    pub(super) fn accept(&mut self, listener: usize) {
        for _ in 0..ACCEPTS {
            if self.shared.counters.open.load(Ordering::Relaxed) >= self.shared.most {
                return self.pause("the most connections are open");
            }
            let Some(socket) = self.listening.get(listener) else { return };
            match acceptfrom_with(socket, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
                Ok((client, peer)) => {
                    let peer = peer.and_then(|peer| SocketAddr::try_from(peer).ok());
                    self.admit(client, peer, listener);
                }
                Err(Errno::AGAIN) => return,
                Err(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => {
                    return self.pause("descriptors or memory are out");
                }
                // Errors of the connection that was to be taken (accept(2)).
                Err(_) => {}
            }
        }
    }

    fn admit(&mut self, client: OwnedFd, peer: Option<SocketAddr>, listener: usize) {
        let Some(peer) = peer else { return };
        let (Ok(number), Some(config)) =
            (u16::try_from(listener), self.snapshot.config.listeners.get(listener))
        else {
            return;
        };
        let counters = &self.shared.counters;
        counters.accepted.fetch_add(1, Ordering::Relaxed);
        let state = &self.snapshot.listeners[listener];
        let open = state.open.fetch_add(1, Ordering::Relaxed);
        let full = config.max_connections.is_some_and(|most| open >= most);
        if full || !enter(state, peer.ip(), config.max_per_address) {
            state.open.fetch_sub(1, Ordering::Relaxed);
            counters.capped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        counters.open.fetch_add(1, Ordering::Relaxed);
        self.open += 1;
        self.generation = self.generation.wrapping_add(1).max(1);
        let snapshot = Arc::clone(&self.snapshot);
        let connection = Connection::new(client, peer, snapshot, number, self.generation, self.now);
        let index = self.place(Box::new(connection));
        self.drive(index);
    }

    fn place(&mut self, connection: Box<Connection>) -> u32 {
        if let Some(index) = self.free.pop() {
            self.connections[index as usize] = Some(connection);
            return index;
        }
        self.connections.push(Some(connection));
        u32::try_from(self.connections.len() - 1).unwrap_or(u32::MAX)
    }

    /// Leaves new connections in the kernel's queue for a moment: a listener stays readable, so
    /// without a pause this would spin.
    fn pause(&mut self, why: &str) {
        self.shared.counters.pauses.fetch_add(1, Ordering::Relaxed);
        if let Some(more) = NO_ROOM.pass(self.now) {
            tracing::warn!(open = self.open, more, "no new connections for a while: {why}");
        }
        self.paused = Some(self.now + PAUSE);
        self.listen();
    }

    /// Goes on accepting when the pause is over, or a connection has ended.
    pub(super) fn resume(&mut self) {
        if self.paused.is_some_and(|until| until <= self.now) {
            self.paused = None;
            self.listen();
        }
    }

    /// A connection that waited for DNS tries again.
    pub(super) fn unpark(&mut self, index: u32) {
        let Some(mut connection) = self.connections.get_mut(index as usize).and_then(Option::take)
        else {
            return;
        };
        // Who waited may have gone, and its index may be somebody else's.
        let waits = matches!(connection.phase, Phase::Resolve);
        let step = if waits { self.dial_again(&mut connection, index) } else { Step::Wait };
        self.connections[index as usize] = Some(connection);
        if step != Step::Wait {
            self.drive(index);
        }
    }
}

/// Counts a connection of an address; false if it has too many.
fn enter(state: &crate::state::ListenerState, address: IpAddr, most: Option<u32>) -> bool {
    let Some(most) = most else { return true };
    let mut counts = state.per_address.lock().unwrap_or_else(PoisonError::into_inner);
    let count = counts.entry(address.to_canonical()).or_insert(0);
    if *count >= most {
        return false;
    }
    *count += 1;
    true
}

/// Undoes what `admit` counted.
pub(super) fn leave(connection: &Connection) {
    let state = &connection.snapshot.listeners[usize::from(connection.listener)];
    state.open.fetch_sub(1, Ordering::Relaxed);
    if connection.config().max_per_address.is_none() {
        return;
    }
    let mut counts = state.per_address.lock().unwrap_or_else(PoisonError::into_inner);
    let address = connection.addresses.peer.ip().to_canonical();
    if let Some(count) = counts.get_mut(&address) {
        *count -= 1;
        if *count == 0 {
            counts.remove(&address);
        }
    }
}
