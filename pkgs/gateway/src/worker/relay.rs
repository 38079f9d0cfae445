//! Bytes that are not looked at: TLS behind its hello, and what HTTP was upgraded to.

use rustix::fd::AsFd as _;
use rustix::io::Errno;

use super::connection::{Connection, End, Phase};
use super::flow::{Broken, Stop};
use super::{Step, Worker};

impl Worker {
    /// Moves bytes in both directions.
    pub(super) fn relay(&mut self, connection: &mut Connection, index: u32) -> Step {
        let Some(backend) = &connection.backend else { return Step::Close(End::Done) };
        let (client, backend) = (connection.client.as_fd(), backend.as_fd());
        let Connection { client_side, backend_side, up, down, .. } = connection;
        let tools = &mut self.tools;
        let (taken, up_stop) =
            up.pump((client, client_side), (backend, backend_side), u64::MAX, tools);
        let (given, down_stop) =
            down.pump((backend, backend_side), (client, client_side), u64::MAX, tools);
        if taken + given > 0 {
            connection.active = self.now;
        }
        if connection.down.total > 0 {
            connection.dial = None;
        }
        let backend_gone = matches!(up_stop, Err(Broken::Sink))
            || matches!(down_stop, Err(Broken::Source) | Ok(Stop::Ended));
        if backend_gone && let Some(step) = self.retry(connection, index) {
            return step;
        }
        match (up_stop, down_stop) {
            (Err(Broken::Source), _) | (_, Err(Broken::Sink)) => Step::Close(End::ClientReset),
            (Err(Broken::Sink), _) => self.last_words(connection),
            (_, Err(Broken::Source)) => Step::Close(End::BackendReset),
            (Ok(up), Ok(down)) => ended(connection, up, down),
        }
    }

    /// The backend takes no more, but what it said before may still be on its way.
    fn last_words(&mut self, connection: &mut Connection) -> Step {
        let Some(backend) = &connection.backend else { return Step::Close(End::BackendReset) };
        connection.backend_side.readable = true;
        let (backend, client) = (backend.as_fd(), connection.client.as_fd());
        let Connection { client_side, backend_side, down, .. } = connection;
        let (_, stop) =
            down.pump((backend, backend_side), (client, client_side), u64::MAX, &mut self.tools);
        match stop {
            Ok(Stop::Ended) => self.part(connection, End::Done),
            _ => Step::Close(End::BackendReset),
        }
    }

    /// Gives a client that was answered the time to read it.
    pub(super) fn drain(&mut self, connection: &mut Connection) -> Step {
        let client = connection.client.as_fd();
        match connection.down.flush(client, &mut connection.client_side, &mut self.tools.pipes) {
            Ok(true) => connection.down.shut(client),
            Ok(false) => return Step::Wait,
            Err(_) => return Step::Close(connection.end),
        }
        let Phase::Drain { left, .. } = &mut connection.phase else { return Step::Wait };
        while connection.client_side.readable {
            match rustix::io::read(client, &mut self.tools.scratch[..]) {
                Ok(0) => return Step::Close(connection.end),
                Ok(count) => {
                    *left = left.saturating_sub(u32::try_from(count).unwrap_or(u32::MAX));
                    if *left == 0 {
                        return Step::Close(connection.end);
                    }
                }
                Err(Errno::AGAIN) => connection.client_side.readable = false,
                Err(Errno::INTR) => {}
                Err(_) => return Step::Close(connection.end),
            }
        }
        Step::Wait
    }
}

/// Passes ends of directions on; both ended is the end.
fn ended(connection: &mut Connection, up: Stop, down: Stop) -> Step {
    // Closing says it too, and is one call less.
    if up == Stop::Ended && down == Stop::Ended {
        return Step::Close(End::Done);
    }
    if let Some(backend) = &connection.backend {
        connection.up.shut(backend.as_fd());
    }
    connection.down.shut(connection.client.as_fd());
    if up == Stop::Budget || down == Stop::Budget { Step::Again } else { Step::Wait }
}
