//! Garbage, half messages, ten thousand connections and silent clients, on what PID 1 listens at.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Mutex;

use anyhow::{Context, Result, ensure};
use kiln_contract::path;
use rustix::fs::OFlags;
use rustix::net::{AddressFamily, SendFlags, SocketAddrUnix, SocketFlags, SocketType};

use crate::node::ROOT;

/// Connections at the same time.
const CONNECTIONS: usize = 10_000;

/// Clients that stay and say nothing, until the probe ends.
const SILENT: usize = 100;

/// Descriptors of the silent clients.
static KEPT: Mutex<Vec<OwnedFd>> = Mutex::new(Vec::new());

/// Messages that mean nothing: half ones, unknown ones, bytes without sense, too long ones.
pub(super) fn messages() -> Vec<Vec<u8>> {
    let mut messages: Vec<Vec<u8>> =
        [&b""[..], b"R", b"READY", b"READY=", b"READY=0", b"\nREADY=1x", b"WATCHDOG=", b"\0\xff\n"]
            .map(<[u8]>::to_vec)
            .into();
    // A simple generator (Numerical Recipes' constants): the same bytes on each run.
    let mut state = 1_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    };
    for length in (0..6000).step_by(37) {
        messages.push((0..length).map(|_| next()).collect());
    }
    messages
}

/// On the notify socket, as a process that is no service; it even says the words of one.
pub(super) fn notify() -> Result<String> {
    let mut sent = 0;
    for message in messages().iter().map(Vec::as_slice).chain([FORGED]) {
        let socket = connect(path::NOTIFY_SOCKET, SocketType::DGRAM)?;
        sent += usize::from(rustix::net::send(&socket, message, SendFlags::NOSIGNAL).is_ok());
    }
    let mut clients = Vec::new();
    for _ in 0..CONNECTIONS {
        let socket = connect(path::NOTIFY_SOCKET, SocketType::DGRAM)?;
        // A full queue refuses; PID 1 empties it.
        sent += usize::from(rustix::net::send(&socket, FORGED, SendFlags::NOSIGNAL).is_ok());
        clients.push(socket);
    }
    ensure!(sent > SILENT, "PID 1 took only {sent} messages");
    keep(clients);
    Ok("said much that means nothing\n".to_owned())
}

/// Every word that a service may say, from who is none.
const FORGED: &[u8] = b"READY=1\nWATCHDOG=1\nSTOPPING=1\nWATCHDOG=trigger\nMAINPID=1\n";

/// On the socket that stands for logind, as a stranger: garbage, half a greeting, and nothing at all.
pub(super) fn login1() -> Result<String> {
    let mut clients = Vec::new();
    for message in messages().iter().map(Vec::as_slice).chain([HALF_GREETING]) {
        let socket = connect(path::LOGIN1_SOCKET, SocketType::STREAM)?;
        // A stranger may be turned away before it has said anything.
        let _ = rustix::net::send(&socket, message, SendFlags::NOSIGNAL);
        clients.push(socket);
    }
    // A full queue refuses; PID 1 empties it.
    clients.extend(
        (0..CONNECTIONS).filter_map(|_| connect(path::LOGIN1_SOCKET, SocketType::STREAM).ok()),
    );
    ensure!(clients.len() > SILENT, "PID 1 took only {} connections", clients.len());
    keep(clients);
    Ok("said much that means nothing\n".to_owned())
}

/// The first half of what a D-Bus client says first (D-Bus specification, "Authentication Protocol").
const HALF_GREETING: &[u8] = b"\0AUTH EXTER";

/// On the FIFO that asks for power-off: words that are none, half ones, and writers that say nothing.
pub(super) fn power() -> Result<String> {
    let fifo = format!("{ROOT}{}", path::POWER_REQUEST);
    let mut open = OpenOptions::new();
    open.write(true).custom_flags(OFlags::NONBLOCK.bits().cast_signed());
    let mut writers = Vec::new();
    for message in messages() {
        let mut writer = open.open(&fifo).context("opening the FIFO")?;
        // A full FIFO refuses; PID 1 empties it.
        let _ = writer.write_all(&message);
    }
    for _ in 0..CONNECTIONS {
        writers.push(OwnedFd::from(open.open(&fifo).context("opening the FIFO")?));
    }
    keep(writers);
    let half = open.open(&fifo).context("opening the FIFO")?.write_all(b"\npower");
    half.context("writing half a word")?;
    Ok("asked for nothing\n".to_owned())
}

fn keep(mut clients: Vec<OwnedFd>) {
    clients.truncate(SILENT);
    KEPT.lock().unwrap_or_else(std::sync::PoisonError::into_inner).extend(clients);
}

fn connect(to: &str, kind: SocketType) -> Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, kind, flags, None)
        .context("making a socket")?;
    let address = SocketAddrUnix::new(format!("{ROOT}{to}"))?;
    rustix::net::connect(&socket, &address).with_context(|| format!("connecting to {to}"))?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn garbage_asks_for_nothing() {
        let words = ["poweroff", "reboot", "halt"];
        for message in messages() {
            let text = String::from_utf8_lossy(&message);
            assert!(!text.lines().any(|line| words.contains(&line.trim()) || line == "READY=1"));
        }
        assert!(messages().iter().any(|message| message.len() > 4096));
    }
}
