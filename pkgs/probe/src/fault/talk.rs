//! Garbage, incomplete messages, ten thousand connections and silent clients on PID 1's sockets.

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

/// The number of connections at the same time.
const CONNECTIONS: usize = 10_000;

/// The number of silent clients that stay connected until the probe exits.
const SILENT: usize = 100;

/// The descriptors of the silent clients.
static KEPT: Mutex<Vec<OwnedFd>> = Mutex::new(Vec::new());

/// Returns invalid messages: incomplete, unknown, random and too long ones.
pub(super) fn messages() -> Vec<Vec<u8>> {
    let mut messages: Vec<Vec<u8>> =
        [&b""[..], b"R", b"READY", b"READY=", b"READY=0", b"\nREADY=1x", b"WATCHDOG=", b"\0\xff\n"]
            .map(<[u8]>::to_vec)
            .into();
    // A simple generator (constants from Numerical Recipes) gives the same bytes on each run.
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

/// Sends invalid and forged messages to the notify socket, as a process that is not a service.
pub(super) fn notify() -> Result<String> {
    let mut sent = 0;
    for message in messages().iter().map(Vec::as_slice).chain([FORGED]) {
        let socket = connect(path::NOTIFY_SOCKET, SocketType::DGRAM)?;
        sent += usize::from(rustix::net::send(&socket, message, SendFlags::NOSIGNAL).is_ok());
    }
    let mut clients = Vec::new();
    for _ in 0..CONNECTIONS {
        let socket = connect(path::NOTIFY_SOCKET, SocketType::DGRAM)?;
        // A full queue refuses messages until PID 1 empties it.
        sent += usize::from(rustix::net::send(&socket, FORGED, SendFlags::NOSIGNAL).is_ok());
        clients.push(socket);
    }
    ensure!(sent > SILENT, "PID 1 accepted only {sent} messages");
    keep(clients);
    Ok("sent garbage\n".to_owned())
}

/// Every message of a service, from a process that is not a service.
const FORGED: &[u8] = b"READY=1\nWATCHDOG=1\nSTOPPING=1\nWATCHDOG=trigger\nMAINPID=1\n";

/// Sends garbage, half a greeting, and nothing at all to the login1 socket, as a foreign process.
pub(super) fn login1() -> Result<String> {
    let mut clients = Vec::new();
    for message in messages().iter().map(Vec::as_slice).chain([HALF_GREETING]) {
        let socket = connect(path::LOGIN1_SOCKET, SocketType::STREAM)?;
        // PID 1 may close the connection before the message is sent.
        let _ = rustix::net::send(&socket, message, SendFlags::NOSIGNAL);
        clients.push(socket);
    }
    // A full queue refuses connections until PID 1 empties it.
    clients.extend(
        (0..CONNECTIONS).filter_map(|_| connect(path::LOGIN1_SOCKET, SocketType::STREAM).ok()),
    );
    ensure!(clients.len() > SILENT, "PID 1 accepted only {} connections", clients.len());
    keep(clients);
    Ok("sent garbage\n".to_owned())
}

/// Half of a D-Bus client's first message (D-Bus specification, "Authentication Protocol").
const HALF_GREETING: &[u8] = b"\0AUTH EXTER";

/// Writes unknown and incomplete words to the FIFO for shutdown requests, and leaves silent writers behind.
pub(super) fn power() -> Result<String> {
    let fifo = format!("{ROOT}{}", path::POWER_REQUEST);
    let mut open = OpenOptions::new();
    open.write(true).custom_flags(OFlags::NONBLOCK.bits().cast_signed());
    let mut writers = Vec::new();
    for message in messages() {
        let mut writer = open.open(&fifo).context("cannot open the FIFO")?;
        // A full FIFO refuses bytes until PID 1 empties it.
        let _ = writer.write_all(&message);
    }
    for _ in 0..CONNECTIONS {
        writers.push(OwnedFd::from(open.open(&fifo).context("cannot open the FIFO")?));
    }
    keep(writers);
    let half = open.open(&fifo).context("cannot open the FIFO")?.write_all(b"\npower");
    half.context("cannot write half a word")?;
    Ok("wrote garbage\n".to_owned())
}

fn keep(mut clients: Vec<OwnedFd>) {
    clients.truncate(SILENT);
    KEPT.lock().unwrap_or_else(std::sync::PoisonError::into_inner).extend(clients);
}

fn connect(to: &str, kind: SocketType) -> Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, kind, flags, None)
        .context("cannot make a socket")?;
    let address = SocketAddrUnix::new(format!("{ROOT}{to}"))?;
    rustix::net::connect(&socket, &address).with_context(|| format!("cannot connect to {to}"))?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn garbage_contains_no_valid_request() {
        let words = ["poweroff", "reboot", "halt"];
        for message in messages() {
            let text = String::from_utf8_lossy(&message);
            assert!(!text.lines().any(|line| words.contains(&line.trim()) || line == "READY=1"));
        }
        assert!(messages().iter().any(|message| message.len() > 4096));
    }
}
