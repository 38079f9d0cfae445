//! The clients of a worker, by index, and the memory that they make it hold.

use std::time::Instant;

use crate::client::Client;

/// The clients of a worker.
///
/// A freed index is reused. A late event for the previous client is harmless, because all sockets
/// are non-blocking.
#[derive(Debug, Default)]
pub(super) struct Clients {
    slots: Vec<Option<Client>>,
    free: Vec<usize>,
    /// Bytes of unfinished requests of all clients.
    held: usize,
}

impl Clients {
    /// Returns the number of clients.
    pub(super) const fn open(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Returns one more than the largest index that was ever in use.
    pub(super) const fn indexes(&self) -> usize {
        self.slots.len()
    }

    /// Adds a client and returns its index.
    pub(super) fn add(&mut self, client: Client) -> usize {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        });
        self.held = self.held.saturating_add(client.connection.held());
        self.slots[index] = Some(client);
        index
    }

    /// Removes a client, which closes its socket; returns false for a free index.
    ///
    /// Closing also removes the socket from the epoll, because no other descriptor refers to it.
    pub(super) fn remove(&mut self, index: usize) -> bool {
        let Some(client) = self.slots[index].take() else { return false };
        self.held = self.held.saturating_sub(client.connection.held());
        self.free.push(index);
        true
    }

    pub(super) fn get(&self, index: usize) -> Option<&Client> {
        self.slots.get(index)?.as_ref()
    }

    /// Runs an action on a client that may change the amount of memory that it holds.
    pub(super) fn with<T>(
        &mut self,
        index: usize,
        act: impl FnOnce(&mut Client) -> T,
    ) -> Option<T> {
        let client = self.slots.get_mut(index)?.as_mut()?;
        let before = client.connection.held();
        let result = act(client);
        let after = client.connection.held();
        self.held = self.held.saturating_add(after).saturating_sub(before);
        Some(result)
    }

    /// Returns the bytes of unfinished requests of all clients.
    pub(super) const fn held(&self) -> usize {
        self.held
    }

    /// Among the clients that hold at least `held` bytes, returns the one that has waited longest
    /// without a whole request, and the start of its wait.
    pub(super) fn longest_waiting(&self, held: usize) -> Option<(Instant, usize)> {
        let waiting = self.slots.iter().enumerate().filter_map(|(index, client)| {
            let connection = &client.as_ref()?.connection;
            (connection.held() >= held).then_some((connection.waiting_since()?, index))
        });
        waiting.min()
    }
}
