//! The least that answers a GET: what a server's own work is measured against.
//!
//! One thread, one level-triggered epoll loop, answers made before the first request. A request is
//! looked at for its end, its path and `Connection: close`, and for nothing else. `write` sends the
//! answer from memory with one call, `sendfile` sends the head and then the file (sendfile(2)).
//! This is no server: it has no limits, no timeouts and no errors.

mod file;

use std::net::{SocketAddr, TcpListener};

use anyhow::{Context as _, Result, bail};
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::fd::{AsRawFd as _, OwnedFd};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SocketFlags, accept_with, recv, sockopt};

use file::{File, Mode};

/// What epoll reports for the listener; connections are reported by their descriptor.
const LISTENER: u64 = u64::MAX;

/// A request is shorter.
const REQUEST: usize = 4096;

const USAGE: &str = "web-floor write|sendfile ADDRESS FOLDER";

/// A connection; most are in no answer.
#[derive(Debug)]
struct Peer {
    socket: OwnedFd,
    answer: Option<Answer>,
}

/// What is being sent.
#[derive(Debug, Clone, Copy)]
struct Answer {
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
    let address: SocketAddr = address.parse().context("no address")?;
    let listener = TcpListener::bind(address).with_context(|| format!("listening on {address}"))?;
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
            Err(errno) => return Err(errno).context("waiting"),
        }
        for event in events.drain(..) {
            let data = event.data.u64();
            if data == LISTENER {
                accept(listener, &epoll, &mut peers);
                continue;
            }
            let index = usize::try_from(data).unwrap_or(usize::MAX);
            let Some(slot) = peers.get_mut(index) else { continue };
            let over = slot.as_mut().is_some_and(|peer| !step(peer, files, mode, &epoll));
            if over {
                *slot = None;
            }
        }
    }
}

fn accept(listener: &TcpListener, epoll: &OwnedFd, peers: &mut Vec<Option<Peer>>) {
    while let Ok(socket) = accept_with(listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
        let index = usize::try_from(socket.as_raw_fd()).unwrap_or(0);
        // Without it the end of a long answer would wait for an acknowledgement.
        let _ = sockopt::set_tcp_nodelay(&socket, true);
        if epoll::add(epoll, &socket, EventData::new_u64(index as u64), EventFlags::IN).is_err() {
            continue;
        }
        if peers.len() <= index {
            peers.resize_with(index + 1, || None);
        }
        peers[index] = Some(Peer { socket, answer: None });
    }
}

/// False when the connection is over.
fn step(peer: &mut Peer, files: &[File], mode: Mode, epoll: &OwnedFd) -> bool {
    let waited = peer.answer.is_some();
    if !waited {
        let mut buffer = [0; REQUEST];
        let count = match recv(&peer.socket, &mut buffer[..], RecvFlags::empty()) {
            Ok((_, count)) => count,
            Err(Errno::AGAIN) => return true,
            Err(_) => return false,
        };
        let Some(answer) = find(&buffer[..count], files) else { return false };
        peer.answer = Some(answer);
    }
    let Some(answer) = &mut peer.answer else { return false };
    let Ok(done) = files[answer.file].send(&peer.socket, &mut answer.sent, mode) else {
        return false;
    };
    let close = answer.close;
    if done {
        peer.answer = None;
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

fn find(request: &[u8], files: &[File]) -> Option<Answer> {
    let rest = request.strip_prefix(b"GET /")?;
    rest.ends_with(b"\r\n\r\n").then_some(())?;
    let name = &rest[..rest.iter().position(|byte| *byte == b' ')?];
    let file = files.iter().position(|file| file.name == name)?;
    let close = rest.windows(7).any(|seven| seven == b": close");
    Some(Answer { file, sent: 0, close })
}
