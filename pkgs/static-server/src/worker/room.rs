//! Who has to go when there is no room: those who hold connections and ask for nothing.

use std::time::{Duration, Instant};

use rustix::event::epoll;

use super::Worker;

/// How long a connection may wait for its client while others wait for a place.
const FAIR_WAIT: Duration = Duration::from_secs(1);

/// Most bytes of unfinished requests that a worker holds.
const HELD_LIMIT: usize = 512 << 10;

/// A time without new connections.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pause {
    until: Instant,
    /// Connections at its beginning: fewer end it.
    open: usize,
}

impl Worker {
    /// Closes the client that has waited longest without asking for anything whole, if that is
    /// long enough: so those who only hold connections cannot keep others out.
    pub(super) fn make_room(&mut self) -> bool {
        match self.longest_waiting(|_| true) {
            Some((since, index)) if since + FAIR_WAIT <= self.clock.now => {
                self.counters().evicted.add(1);
                self.close(index);
                true
            }
            _ => false,
        }
    }

    fn longest_waiting(&self, which: impl Fn(usize) -> bool) -> Option<(Instant, usize)> {
        let waiting = self.clients.iter().enumerate().filter_map(|(index, client)| {
            let connection = &client.as_ref()?.connection;
            which(connection.held()).then_some((connection.waiting_since()?, index))
        });
        waiting.min()
    }

    /// Closes the clients that have begun a request longest ago while all unfinished ones together
    /// take too much memory: the more of them there are, the less time they have.
    pub(super) fn limit_held(&mut self) {
        while self.held > HELD_LIMIT {
            let Some((_, index)) = self.longest_waiting(|held| held > 0) else { return };
            self.counters().evicted.add(1);
            self.close(index);
        }
    }

    /// Leaves new connections in the kernel's queue until there may be room.
    pub(super) fn pause(&mut self) {
        if self.pause.is_none() && self.leave_listener() {
            self.pause = Some(Pause { until: self.clock.now + FAIR_WAIT, open: self.open() });
        }
    }

    pub(super) fn leave_listener(&self) -> bool {
        epoll::delete(&self.epoll, &*self.setup.listener).is_ok()
    }

    /// Ends a pause when a connection has been closed or enough time has passed.
    pub(super) fn resume(&mut self) -> anyhow::Result<()> {
        match self.pause {
            None => Ok(()),
            _ if self.stopping => Ok(()),
            Some(Pause { until, open }) if self.open() >= open && self.clock.now < until => {
                self.note(until);
                Ok(())
            }
            Some(_) => {
                self.pause = None;
                self.listen()
            }
        }
    }
}
