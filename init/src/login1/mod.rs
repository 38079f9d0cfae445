//! The part of `org.freedesktop.login1.Manager` that kubelet's graceful shutdown needs.
//!
//! kubelet asks a D-Bus at `DBUS_SYSTEM_BUS_ADDRESS` for an inhibitor and releases it when its pods
//! have stopped (`pkg/kubelet/nodeshutdown`). This is that bus, with one socket and one client.
//! [`wire`] is the format, [`auth`] the authentication, [`connection`] the conversation as a pure
//! machine, and this module the sockets. Nothing here waits.
//!
//! The only client is kubelet's own process. All others are disconnected at once, so that a crowd
//! of clients costs no more than its `accept`s.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use kiln_contract::path::LOGIN1_SOCKET;
use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix,
    SocketFlags, SocketType,
};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::Pid;

use self::connection::{Connection, Effect};
use crate::console::kmsg;
use crate::machine::identity::random_uuid;

pub mod auth;
pub mod connection;
pub mod grace;
pub mod wire;

#[cfg(test)]
mod tests;

/// The number of clients. kubelet has one connection, and two for a moment when it restarts.
const CLIENTS_MAX: usize = 4;

/// The number of inhibitors. kubelet has one, and two for a moment when it takes it again.
const INHIBITORS_MAX: usize = 4;

/// The time limit for `Hello` and for the rest of a message. It is generous, because under
/// emulation a node that starts its pods makes kubelet wait for seconds.
const PATIENCE: Duration = Duration::from_secs(30);

/// The number of bytes that may wait for a client. kubelet never has more than a short reply to
/// read.
const QUEUE_MAX: usize = 16 * 1024;

/// The number of other processes that are disconnected in one turn of the loop.
const ACCEPTS_MAX: usize = 64;

/// The number of bytes read in one turn.
const CHUNK: usize = 4096;

/// The number of connections that wait to be accepted. The kernel's own limit
/// (`net.core.somaxconn`) is lower or equal.
const BACKLOG: i32 = 4096;

/// The time from kubelet's `READY=1` to a complaint about a missing inhibitor.
pub const INHIBITOR_EXPECTED: Duration = Duration::from_mins(1);

/// News for the supervisor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// kubelet holds an inhibitor and wants this much time before a shutdown.
    Inhibited(Duration),
    /// kubelet holds no inhibitor any more.
    Released,
}

/// A descriptor to poll.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Socket {
    /// A client connects.
    Listener,
    /// A client sent bytes, or can take more.
    Client(u64),
    /// An inhibitor was closed.
    Inhibitor(u64),
}

/// Bytes to send, with the descriptor that goes with the first of them.
#[derive(Debug)]
struct Outgoing {
    bytes: Vec<u8>,
    sent: usize,
    descriptor: Option<OwnedFd>,
}

#[derive(Debug)]
struct Client {
    number: u64,
    socket: OwnedFd,
    connection: Connection,
    queue: VecDeque<Outgoing>,
    /// The deadline for `Hello`, or for the rest of the message.
    due: Option<Instant>,
}

#[derive(Debug)]
struct Inhibitor {
    number: u64,
    /// The end that hangs up when kubelet closes the other one.
    reader: OwnedFd,
    grace: Duration,
}

/// The bus.
#[derive(Debug)]
pub struct Server {
    listener: OwnedFd,
    guid: String,
    drop_in: PathBuf,
    numbers: u64,
    clients: Vec<Client>,
    inhibitors: Vec<Inhibitor>,
    refused: u64,
    expected: bool,
    complain: Option<Instant>,
}

impl Server {
    /// Listens at the contract's path. `expected` is true if kubelet's configuration makes it take
    /// an inhibitor.
    pub fn start(expected: bool) -> Result<Self> {
        let guid = random_uuid()?.trim().replace('-', "");
        let mut server = Self::listen(LOGIN1_SOCKET, guid, Path::new(grace::DROP_IN))?;
        server.expected = expected;
        Ok(server)
    }

    /// Listens at `path`. Call it before kubelet starts, because kubelet connects only once. `guid`
    /// has 32 hex digits, and kubelet writes to `drop_in` ([`grace::DROP_IN`]).
    pub fn listen(path: &str, guid: String, drop_in: &Path) -> Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let listener =
            rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
                .context("cannot make the login1 socket")?;
        rustix::net::bind(&listener, &SocketAddrUnix::new(path)?)
            .with_context(|| format!("cannot bind {path}"))?;
        rustix::fs::chmod(path, rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR)
            .with_context(|| format!("cannot set the mode of {path}"))?;
        rustix::net::listen(&listener, BACKLOG)
            .with_context(|| format!("cannot listen on {path}"))?;
        let (clients, inhibitors) = (Vec::new(), Vec::new());
        let drop_in = drop_in.to_owned();
        Ok(Self {
            listener,
            guid,
            drop_in,
            numbers: 0,
            clients,
            inhibitors,
            refused: 0,
            expected: false,
            complain: None,
        })
    }

    /// Returns the sockets to poll and the events to wait for.
    pub fn sockets(&self) -> impl Iterator<Item = (Socket, BorrowedFd<'_>, PollFlags)> {
        let listener = (Socket::Listener, self.listener.as_fd(), PollFlags::IN);
        let clients = self.clients.iter().map(|client| {
            let out = if client.queue.is_empty() { PollFlags::empty() } else { PollFlags::OUT };
            (Socket::Client(client.number), client.socket.as_fd(), PollFlags::IN | out)
        });
        let inhibitors = self.inhibitors.iter().map(|inhibitor| {
            (Socket::Inhibitor(inhibitor.number), inhibitor.reader.as_fd(), PollFlags::IN)
        });
        std::iter::once(listener).chain(clients).chain(inhibitors)
    }

    /// Returns the time at which [`Self::expire`] must be called.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        self.clients.iter().filter_map(|client| client.due).chain(self.complain).min()
    }

    /// Records that kubelet is ready. If its configuration has a grace, it takes an inhibitor soon.
    pub fn expect_inhibitor(&mut self, now: Instant) {
        self.complain = self.expected.then(|| now + INHIBITOR_EXPECTED);
    }

    /// Disconnects clients with incomplete messages, and complains about a missing inhibitor.
    pub fn expire(&mut self, now: Instant) {
        if let Some(complaint) = self.complaint(now) {
            kmsg::error(complaint);
        }
        let before = self.clients.len();
        self.clients.retain(|client| client.due.is_none_or(|due| due > now));
        if self.clients.len() < before {
            kmsg::warn("login1: a client was silent for too long, disconnected");
        }
    }

    /// Returns the complaint about a kubelet without an inhibitor, once.
    fn complaint(&mut self, now: Instant) -> Option<&'static str> {
        self.complain.take_if(|due| *due <= now)?;
        (!self.inhibited())
            .then_some("kubelet took no shutdown inhibitor: a shutdown will kill its pods")
    }

    /// True while kubelet holds an inhibitor.
    #[must_use]
    pub fn inhibited(&self) -> bool {
        !self.inhibitors.is_empty()
    }

    /// Handles an event on a socket. `kubelet` is the pid of its process, if it runs.
    pub fn handle(&mut self, socket: Socket, kubelet: Option<Pid>, now: Instant) -> Option<News> {
        match socket {
            Socket::Listener => {
                self.accept(kubelet, now);
                None
            }
            Socket::Client(number) => self.talk(number, now),
            Socket::Inhibitor(number) => self.release(number),
        }
    }

    /// Announces the shutdown to kubelet. Returns false if no client listens or holds an inhibitor.
    pub fn announce(&mut self) -> bool {
        let mut told = false;
        if self.inhibited() {
            for client in self.clients.iter_mut().filter(|client| client.connection.watching()) {
                let bytes = client.connection.announcement();
                told |= client.send(bytes, None).is_ok();
            }
        }
        told
    }

    fn accept(&mut self, kubelet: Option<Pid>, now: Instant) {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        for _ in 0..ACCEPTS_MAX {
            let Ok(socket) = rustix::net::accept_with(&self.listener, flags) else { return };
            let peer = rustix::net::sockopt::socket_peercred(&socket);
            let Ok(peer) = peer else { continue };
            if !peer.uid.is_root() && peer.uid != rustix::process::geteuid()
                || kubelet != Some(peer.pid)
            {
                self.refuse(peer.pid);
                continue;
            }
            if self.clients.len() == CLIENTS_MAX {
                self.clients.remove(0);
            }
            self.numbers += 1;
            self.clients.push(Client {
                number: self.numbers,
                socket,
                connection: Connection::new(self.numbers, peer.uid.as_raw(), self.guid.clone()),
                queue: VecDeque::new(),
                due: Some(now + PATIENCE),
            });
        }
    }

    /// Reports the first refused process and each power of two: ten thousand are fourteen lines.
    fn refuse(&mut self, pid: Pid) {
        self.refused += 1;
        if self.refused.is_power_of_two() {
            let (pid, count) = (pid.as_raw_pid(), self.refused);
            kmsg::warn(format_args!("login1: process {pid} is not kubelet, refused ({count})"));
        }
    }

    fn talk(&mut self, number: u64, now: Instant) -> Option<News> {
        let index = self.clients.iter().position(|client| client.number == number)?;
        let news = self.serve(index, now);
        match news {
            Ok(news) => news,
            Err(why) => {
                self.clients.remove(index);
                if let Some(why) = why {
                    kmsg::warn(format_args!("login1: {why}, disconnected"));
                }
                None
            }
        }
    }

    /// Reads once and carries out the effects. An error disconnects the client, with a reason if
    /// that is worth a message.
    fn serve(&mut self, index: usize, now: Instant) -> Result<Option<News>, Option<String>> {
        let mut bytes = [0_u8; CHUNK];
        let client = &mut self.clients[index];
        client.flush()?;
        // Without a buffer for them, the kernel closes descriptors that a client sends.
        let flags = RecvFlags::DONTWAIT;
        let length = match rustix::net::recv(&client.socket, &mut bytes[..], flags) {
            Ok((_, 0)) => return Err(None),
            Ok((_, length)) => length,
            Err(Errno::AGAIN | Errno::INTR) => return Ok(None),
            Err(error) => return Err(Some(format!("cannot receive: {error}"))),
        };
        let effects = client.connection.receive(&bytes[..length]);
        let effects =
            effects.map_err(|broken| Some(format!("kubelet broke the protocol: {broken:?}")))?;
        let mut news = None;
        for effect in effects {
            news = self.act(index, effect)?.or(news);
        }
        let client = &mut self.clients[index];
        let open = !client.connection.greeted() || client.connection.waits_for_the_rest();
        client.due = if open { client.due.or(Some(now + PATIENCE)) } else { None };
        Ok(news)
    }

    fn act(&mut self, index: usize, effect: Effect) -> Result<Option<News>, Option<String>> {
        let client = &mut self.clients[index];
        match effect {
            Effect::Send(bytes) => client.send(bytes, None)?,
            Effect::Reload { serial } => {
                let grace = grace::read(&self.drop_in);
                let answer = match grace {
                    Some(grace) => client.connection.reloaded(serial, grace),
                    None => {
                        client.connection.failed(serial, "no InhibitDelayMaxSec in the drop-in")
                    }
                };
                answer.map_or(Ok(()), |bytes| client.send(bytes, None))?;
            }
            Effect::Inhibit { serial } => return self.inhibit(index, serial),
        }
        Ok(None)
    }

    fn inhibit(&mut self, index: usize, serial: u32) -> Result<Option<News>, Option<String>> {
        let client = &mut self.clients[index];
        let pipe = pipe_with(PipeFlags::CLOEXEC);
        let (Ok((reader, writer)), true) = (pipe, self.inhibitors.len() < INHIBITORS_MAX) else {
            let answer = client.connection.failed(serial, "no more inhibitors");
            answer.map_or(Ok(()), |bytes| client.send(bytes, None))?;
            return Ok(None);
        };
        let grace = client.connection.grace();
        let bytes = client.connection.inhibited(serial);
        client.send(bytes, Some(writer))?;
        self.numbers += 1;
        self.inhibitors.push(Inhibitor { number: self.numbers, reader, grace });
        Ok(Some(News::Inhibited(grace)))
    }

    /// Drops an inhibitor. The newest of the remaining ones counts.
    fn release(&mut self, number: u64) -> Option<News> {
        let index = self.inhibitors.iter().position(|inhibitor| inhibitor.number == number)?;
        // A client that writes into the pipe instead of closing it is not kubelet.
        self.inhibitors.remove(index);
        Some(self.inhibitors.last().map_or(News::Released, |last| News::Inhibited(last.grace)))
    }
}

impl Client {
    fn send(&mut self, bytes: Vec<u8>, descriptor: Option<OwnedFd>) -> Result<(), Option<String>> {
        let waiting: usize = self.queue.iter().map(|outgoing| outgoing.bytes.len()).sum();
        if waiting + bytes.len() > QUEUE_MAX {
            return Err(Some("kubelet does not read its replies".into()));
        }
        self.queue.push_back(Outgoing { bytes, sent: 0, descriptor });
        self.flush()
    }

    /// Sends as much as the socket takes.
    fn flush(&mut self) -> Result<(), Option<String>> {
        while let Some(outgoing) = self.queue.front_mut() {
            match outgoing.send_to(&self.socket) {
                Ok(()) if outgoing.sent == outgoing.bytes.len() => drop(self.queue.pop_front()),
                Ok(()) => {}
                Err(Errno::AGAIN | Errno::INTR) => return Ok(()),
                // The client closed the connection, which the next read reports.
                Err(Errno::PIPE | Errno::CONNRESET) => return Err(None),
                Err(error) => return Err(Some(format!("cannot send: {error}"))),
            }
        }
        Ok(())
    }
}

impl Outgoing {
    fn send_to(&mut self, socket: &OwnedFd) -> Result<(), Errno> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let descriptors = self.descriptor.as_ref().map(AsFd::as_fd);
        if let Some(descriptor) = &descriptors {
            control.push(SendAncillaryMessage::ScmRights(std::slice::from_ref(descriptor)));
        }
        let bytes = [IoSlice::new(&self.bytes[self.sent..])];
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        let sent = rustix::net::sendmsg(socket, &bytes, &mut control, flags)?;
        self.sent += sent;
        // The descriptor went with the first byte. PID 1's copy is closed, so that kubelet's is the
        // only one.
        self.descriptor = None;
        Ok(())
    }
}
