//! The notify socket (`sd_notify(3)`): how services say that they are ready.
//!
//! A datagram socket that only root can reach. Who sent a message is taken from the kernel
//! (`SCM_CREDENTIALS`), never from the message.

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

/// Longest message that is read; systemd's own limit. What is longer is dropped whole.
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

/// Reads a message: assignments, one per line. Unknown ones are skipped.
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

/// Makes the socket. Before any service starts.
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

/// One waiting message and its sender, if that is root; `None` when there is none.
///
/// Descriptors that came along are closed: systemd's barrier (`BARRIER=1`) waits for just that.
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
        fn any_bytes_are_read(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = parse(&bytes);
        }
    }
}
