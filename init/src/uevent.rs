//! The kernel's device messages (Documentation/ABI/stable/sysfs-uevent, netlink(7)).

use std::os::fd::OwnedFd;

use anyhow::{Context, Result};
use rustix::net::netlink::{KOBJECT_UEVENT, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType};

/// The group that the kernel itself sends to.
const KERNEL_GROUP: u32 = 1;

/// Largest message: the kernel's `UEVENT_BUFFER_SIZE` plus the header line.
const MESSAGE_MAX: usize = 4096;

/// What PID 1 wants to know of a message.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Uevent {
    /// `add`, `remove`, `change` …
    pub action: String,
    /// `input`, `block`, `net` …
    pub subsystem: String,
    /// Name below `/dev`, if the device has a node.
    pub device: String,
}

/// Reads one message: a header, then `KEY=VALUE`, each with a NUL. `None` without an action.
#[must_use]
pub fn parse(bytes: &[u8]) -> Option<Uevent> {
    let mut uevent = Uevent::default();
    for field in bytes.split(|&byte| byte == 0).skip(1) {
        let Some((key, value)) = std::str::from_utf8(field).ok().and_then(|f| f.split_once('='))
        else {
            continue;
        };
        match key {
            "ACTION" => uevent.action = value.into(),
            "SUBSYSTEM" => uevent.subsystem = value.into(),
            "DEVNAME" => uevent.device = value.into(),
            _ => {}
        }
    }
    (!uevent.action.is_empty()).then_some(uevent)
}

/// Opens the socket.
pub fn listen() -> Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let protocol = Some(KOBJECT_UEVENT);
    let socket = rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, protocol)
        .context("make the uevent socket")?;
    rustix::net::bind(&socket, &SocketAddrNetlink::new(0, KERNEL_GROUP))
        .context("bind the uevent socket")?;
    Ok(socket)
}

/// One waiting message of the kernel's; `None` when there is none. Others' messages are skipped.
#[must_use]
pub fn receive(socket: &OwnedFd) -> Option<Uevent> {
    let mut buffer = [0_u8; MESSAGE_MAX];
    loop {
        let (length, _, sender) =
            rustix::net::recvfrom(socket, &mut buffer[..], RecvFlags::DONTWAIT).ok()?;
        let kernel = sender
            .and_then(|sender| SocketAddrNetlink::try_from(sender).ok())
            .is_some_and(|sender| sender.pid() == 0);
        if kernel && let Some(uevent) = parse(&buffer[..length]) {
            return Some(uevent);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::parse;

    #[test]
    fn the_fields_are_found_in_any_order() {
        let bytes = b"add@/devices/x\0DEVNAME=input/event0\0ACTION=add\0SUBSYSTEM=input\0";
        let uevent = parse(bytes).unwrap();
        assert_eq!((uevent.action.as_str(), uevent.subsystem.as_str()), ("add", "input"));
        assert_eq!(uevent.device, "input/event0");
    }

    #[test]
    fn what_has_no_action_is_no_message() {
        assert_eq!(parse(b"libudev\0\xfe\xed"), None);
        assert_eq!(parse(b""), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = parse(&bytes);
        }
    }
}
