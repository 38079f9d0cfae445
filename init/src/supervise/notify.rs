//! The notify socket (`sd_notify(3)`), on which services report that they are ready.
//!
//! It is a datagram socket that only root can reach. The kernel supplies the sender
//! (`SCM_CREDENTIALS`); the message's own claim is ignored.

use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;

use anyhow::{Context, Result};
use kiln_contract::path::NOTIFY_SOCKET;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SocketAddrUnix,
    SocketFlags, SocketType,
};
use rustix::process::Pid;

/// The longest message in bytes, as in systemd. Longer ones are dropped.
const MESSAGE_MAX: usize = 4096;

/// A message that PID 1 acts on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Message {
    /// `READY=1`.
    Ready,
    /// `WATCHDOG=1`.
    Fed,
    /// `STOPPING=1`.
    Stopping,
}

/// Parses a message: assignments, one per line. Unknown ones are skipped.
#[must_use]
pub fn parse(bytes: &[u8]) -> Vec<Message> {
    let lines = bytes.split(|&byte| byte == b'\n');
    let known = lines.filter_map(|line| match line {
        b"READY=1" => Some(Message::Ready),
        b"WATCHDOG=1" => Some(Message::Fed),
        b"STOPPING=1" => Some(Message::Stopping),
        _ => None,
    });
    known.collect()
}

/// Makes the socket. Call it before any service starts.
pub fn listen() -> Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None)
        .context("cannot make the notify socket")?;
    rustix::net::sockopt::set_socket_passcred(&socket, true).context("cannot set SO_PASSCRED")?;
    let address = SocketAddrUnix::new(NOTIFY_SOCKET)?;
    rustix::net::bind(&socket, &address).with_context(|| format!("cannot bind {NOTIFY_SOCKET}"))?;
    std::fs::set_permissions(NOTIFY_SOCKET, std::fs::Permissions::from_mode(0o600))?;
    Ok(socket)
}

/// Reads a waiting message. Returns its sender if that is root, or `None` if no message is waiting.
///
/// Descriptors in the message are closed, which is all that systemd's barrier (`BARRIER=1`) waits
/// for.
#[must_use]
pub fn receive(socket: &OwnedFd) -> Option<(Option<Pid>, Vec<Message>)> {
    let mut buffer = [0_u8; MESSAGE_MAX];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(253), ScmCredentials(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut parts = [IoSliceMut::new(&mut buffer)];
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    let received = rustix::net::recvmsg(socket, &mut parts, &mut control, flags).ok()?;
    let mut sender = None;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmCredentials(credentials) = message {
            sender = Some(credentials.pid).filter(|_| credentials.uid.is_root());
        }
    }
    let cut = received.flags.contains(rustix::net::ReturnFlags::TRUNC);
    let length = if cut { 0 } else { received.bytes };
    Some((sender, parse(&buffer[..length])))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Message, parse};

    #[test]
    fn ready_is_a_whole_line() {
        assert_eq!(parse(b"READY=1"), [Message::Ready]);
        assert_eq!(parse(b"STATUS=fine\nREADY=1\nMAINPID=4"), [Message::Ready]);
        for bytes in [&b"READY=11"[..], b"READY=0", b"XREADY=1", b"", b"\0\xff\n"] {
            assert_eq!(parse(bytes), [], "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn exactly_the_known_lines_are_messages(
            lines in prop::collection::vec("READY=[01]|WATCHDOG=1|STOPPING=1|[A-Z]{0,9}=?[a-z0-9]{0,5}", 0..9),
        ) {
            let known = |line: &String| match line.as_str() {
                "READY=1" => Some(Message::Ready),
                "WATCHDOG=1" => Some(Message::Fed),
                "STOPPING=1" => Some(Message::Stopping),
                _ => None,
            };
            let expected: Vec<Message> = lines.iter().filter_map(known).collect();
            prop_assert_eq!(parse(lines.join("\n").as_bytes()), expected);
        }
    }
}
