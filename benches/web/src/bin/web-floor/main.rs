//! The simplest program that answers GET requests, with which real servers are compared.
//!
//! It has one thread and one level-triggered epoll loop, and prepares all responses before the first
//! request. It reads only the end of a request, the path and `Connection: close`. `write` sends the
//! response from memory with one call; `sendfile` sends the head and then the file (sendfile(2)).
//! It is not a real server: it has no limits, no timeouts and no error responses.

mod file;

use std::net::{SocketAddr, TcpListener};

use anyhow::{Context as _, Result, bail};
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::fd::{AsRawFd as _, OwnedFd};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SocketFlags, accept_with, recv, sockopt};

use file::{File, Mode};

/// The epoll data of the listener; the data of a connection is its descriptor.
const LISTENER: u64 = u64::MAX;

/// The longest request, in bytes.
const REQUEST_BYTES_MAX: usize = 4096;

const USAGE: &str = "web-floor write|sendfile ADDRESS FOLDER";

/// A connection, and the response that is being sent.
#[derive(Debug)]
struct Peer {
    socket: OwnedFd,
    response: Option<Response>,
}

/// A response that is being sent.
#[derive(Debug, Clone, Copy)]
struct Response {
    file: usize,
    sent: usize,
    close: bool,
}

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [mode, address, folder] = &args[..] else { bail!("usage: {USAGE}") };
    let mode = match mode.as_str() {
        "write" => Mode::Write,
        "sendfile" => Mode::Sendfile,
        _ => bail!("usage: {USAGE}"),
    };
    let files = file::load(folder.as_ref())?;
    let address: SocketAddr =
        address.parse().with_context(|| format!("{address} is not an address with a port"))?;
    let listener =
        TcpListener::bind(address).with_context(|| format!("cannot listen on {address}"))?;
    listener.set_nonblocking(true)?;
    serve(&listener, &files, mode)
}

fn serve(listener: &TcpListener, files: &[File], mode: Mode) -> Result<()> {
    let epoll = epoll::create(CreateFlags::CLOEXEC)?;
    epoll::add(&epoll, listener, EventData::new_u64(LISTENER), EventFlags::IN)?;
    let mut peers: Vec<Option<Peer>> = Vec::new();
    let mut events = Vec::with_capacity(256);
    loop {
        match epoll::wait(&epoll, rustix::buffer::spare_capacity(&mut events), None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno).context("cannot wait for events"),
        }
        for event in events.drain(..) {
            let data = event.data.u64();
            if data == LISTENER {
                accept(listener, &epoll, &mut peers);
                continue;
            }
            let index = usize::try_from(data).unwrap_or(usize::MAX);
            let Some(slot) = peers.get_mut(index) else { continue };
            let closed = slot.as_mut().is_some_and(|peer| !advance(peer, files, mode, &epoll));
            if closed {
                *slot = None;
            }
        }
    }
}

fn accept(listener: &TcpListener, epoll: &OwnedFd, peers: &mut Vec<Option<Peer>>) {
    while let Ok(socket) = accept_with(listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
        let index = usize::try_from(socket.as_raw_fd()).unwrap_or(0);
        // Otherwise the end of a long response would wait for an acknowledgement.
        let _ = sockopt::set_tcp_nodelay(&socket, true);
        if epoll::add(epoll, &socket, EventData::new_u64(index as u64), EventFlags::IN).is_err() {
            continue;
        }
        if peers.len() <= index {
            peers.resize_with(index + 1, || None);
        }
        peers[index] = Some(Peer { socket, response: None });
    }
}

/// Receives a request or sends a part of the response; returns false at the end of the connection.
fn advance(peer: &mut Peer, files: &[File], mode: Mode, epoll: &OwnedFd) -> bool {
    let waited = peer.response.is_some();
    if !waited {
        let mut buffer = [0; REQUEST_BYTES_MAX];
        let count = match recv(&peer.socket, &mut buffer[..], RecvFlags::empty()) {
            Ok((_, count)) => count,
            Err(Errno::AGAIN) => return true,
            Err(_) => return false,
        };
        let Some(response) = find(&buffer[..count], files) else { return false };
        peer.response = Some(response);
    }
    let Some(response) = &mut peer.response else { return false };
    let Ok(done) = files[response.file].send(&peer.socket, &mut response.sent, mode) else {
        return false;
    };
    let close = response.close;
    if done {
        peer.response = None;
    }
    if done == waited {
        let flags = if done { EventFlags::IN } else { EventFlags::OUT };
        let data = EventData::new_u64(u64::try_from(peer.socket.as_raw_fd()).unwrap_or(0));
        if epoll::modify(epoll, &peer.socket, data, flags).is_err() {
            return false;
        }
    }
    !(done && close)
}

fn find(request: &[u8], files: &[File]) -> Option<Response> {
    let rest = request.strip_prefix(b"GET /")?;
    rest.ends_with(b"\r\n\r\n").then_some(())?;
    let name = &rest[..rest.iter().position(|byte| *byte == b' ')?];
    let file = files.iter().position(|file| file.name == name)?;
    let close = rest.windows(7).any(|seven| seven == b": close");
    Some(Response { file, sent: 0, close })
}
