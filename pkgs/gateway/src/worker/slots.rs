//! The connections of a worker, by index.

use super::connection::Connection;
use super::link::Key;

/// Closed connections after which memory is returned to the system.
const CLOSED_MAX: usize = 2_000;

/// Connections by index. A connection is taken out while it is driven.
#[derive(Debug, Default)]
pub(super) struct Slots {
    connections: Vec<Option<Box<Connection>>>,
    free: Vec<u32>,
    open: usize,
    /// Connections closed since memory was last returned.
    closed: usize,
    generation: u32,
}

impl Slots {
    /// Returns a key for a new connection, which must be stored with [`Self::put`].
    pub(super) fn reserve(&mut self) -> Key {
        let index = self.free.pop().unwrap_or_else(|| {
            self.connections.push(None);
            u32::try_from(self.connections.len() - 1).unwrap_or(u32::MAX)
        });
        self.open += 1;
        // A listener's events have generation 0.
        self.generation = self.generation.wrapping_add(1).max(1);
        Key { index, generation: self.generation }
    }

    /// Stores a connection under the index of its key.
    pub(super) fn put(&mut self, connection: Box<Connection>) {
        let index = connection.key().index as usize;
        self.connections[index] = Some(connection);
    }

    /// Takes a connection out, to be stored or released again.
    pub(super) fn take(&mut self, index: u32) -> Option<Box<Connection>> {
        self.connections.get_mut(index as usize)?.take()
    }

    pub(super) fn get_mut(&mut self, index: u32) -> Option<&mut Connection> {
        self.connections.get_mut(index as usize)?.as_deref_mut()
    }

    /// Releases the index of a connection that was taken out and has ended.
    pub(super) fn release(&mut self, index: u32) {
        self.free.push(index);
        self.open -= 1;
        self.closed += 1;
    }

    /// Returns the number of indices, used and free.
    pub(super) fn indices(&self) -> u32 {
        u32::try_from(self.connections.len()).unwrap_or(u32::MAX)
    }

    /// Returns memory after many connections have ended; true if there was memory to return.
    pub(super) fn trim(&mut self) -> bool {
        if self.closed < CLOSED_MAX || self.open * 2 > self.closed {
            return false;
        }
        self.closed = 0;
        while matches!(self.connections.last(), Some(None)) {
            self.connections.pop();
        }
        let len = self.connections.len();
        self.connections.shrink_to_fit();
        self.free.retain(|index| (*index as usize) < len);
        self.free.shrink_to_fit();
        true
    }
}
