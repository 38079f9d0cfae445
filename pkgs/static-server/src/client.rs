//! A client's socket with its protocol state: the I/O that [`Connection`] asks for.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};

use rustix::event::epoll::{self, EventFlags};
use rustix::fd::OwnedFd;

use crate::connection::{Connection, Context, Want};

/// Steps (reads and writes) of one connection before others get their turn.
const STEPS: usize = 16;

/// Bytes that are read at once.
const READ_SIZE: usize = 16 << 10;

/// A client.
#[derive(Debug)]
pub(crate) struct Client {
    stream: TcpStream,
    pub(crate) connection: Connection,
    /// What epoll reports of it.
    interest: EventFlags,
}

impl Client {
    /// Takes an accepted socket; epoll will report it by its index.
    pub(crate) fn new(
        stream: TcpStream,
        epoll: &OwnedFd,
        index: usize,
        context: &Context<'_>,
    ) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        let interest = EventFlags::IN;
        epoll::add(epoll, &stream, epoll::EventData::new_u64(index as u64), interest)?;
        Ok(Self { stream, connection: Connection::new(context), interest })
    }

    /// Reads and writes until the socket has nothing more, or others should have their turn.
    /// False when the connection is over.
    pub(crate) fn step(&mut self, context: &Context<'_>) -> bool {
        for _ in 0..STEPS {
            match self.once(context) {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    tracing::debug!("a connection broke: {error}");
                    return false;
                }
            }
        }
        match self.connection.want(context) {
            Want::Close => false,
            Want::Read(_) => !context.stopping,
            _ => true,
        }
    }

    /// One step; false when there is surely none to follow at once.
    fn once(&mut self, context: &Context<'_>) -> io::Result<bool> {
        let mut buffer = [0; READ_SIZE];
        let connection = &mut self.connection;
        match connection.want(context) {
            Want::Read(room) => {
                let count = self.stream.read(&mut buffer[..room.min(READ_SIZE)])?;
                connection.received(&buffer[..count], context);
                Ok(!matches!(connection.want(context), Want::Read(_)))
            }
            Want::Write => {
                let count = self.stream.write_vectored(&connection.output())?;
                connection.sent(count, context);
                Ok(!matches!(connection.want(context), Want::Read(_)) || context.stopping)
            }
            Want::HalfClose => {
                self.stream.shutdown(Shutdown::Write)?;
                connection.half_closed(context);
                Ok(true)
            }
            Want::Discard => {
                connection.discarded(self.stream.read(&mut buffer)?);
                Ok(true)
            }
            Want::Close => Ok(false),
        }
    }

    /// Waits for what the connection wants; false when that fails.
    pub(crate) fn follow(&mut self, epoll: &OwnedFd, index: usize, context: &Context<'_>) -> bool {
        let interest = match self.connection.want(context) {
            Want::Write | Want::HalfClose => EventFlags::OUT,
            _ => EventFlags::IN,
        };
        if interest == self.interest {
            return true;
        }
        self.interest = interest;
        let data = epoll::EventData::new_u64(index as u64);
        epoll::modify(epoll, &self.stream, data, interest).is_ok()
    }
}
