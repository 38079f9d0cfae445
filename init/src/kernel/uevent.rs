//! The kernel's device messages (Documentation/ABI/stable/sysfs-uevent, netlink(7)).

use std::os::fd::OwnedFd;

use anyhow::{Context, Result};
use rustix::io::Errno;
use rustix::net::netlink::{KOBJECT_UEVENT, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType};

/// The group that the kernel itself sends to.
const KERNEL_GROUP: u32 = 1;

/// The largest message: the kernel's `UEVENT_BUFFER_SIZE` plus the header line.
const MESSAGE_MAX: usize = 4096;

/// Bytes that the kernel keeps for PID 1, which reads nothing during the boot: about a thousand
/// messages.
const BUFFER: usize = 1024 * 1024;

/// The fields of a message that PID 1 uses.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Uevent {
    /// `add`, `remove`, `change` …
    pub action: String,
    /// `input`, `block`, `net` …
    pub subsystem: String,
    /// The name below `/dev`, if the device has a node.
    pub device: String,
    /// The device's folder below `/sys`, with a leading `/`.
    pub path: String,
    /// The kind of hardware, if a driver can be found for it.
    pub modalias: String,
}

/// The result of a read.
#[derive(Debug, PartialEq, Eq)]
pub enum Received {
    /// A message of the kernel.
    Message(Uevent),
    /// Messages were lost, so the devices must be scanned.
    Overrun,
    /// No message is waiting.
    Nothing,
}

/// Parses a message: a header, then `KEY=VALUE` fields, each ended by a NUL. Returns `None` if
/// there is no action.
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
            "DEVPATH" => uevent.path = value.into(),
            "MODALIAS" => uevent.modalias = value.into(),
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
        .context("cannot make the uevent socket")?;
    rustix::net::bind(&socket, &SocketAddrNetlink::new(0, KERNEL_GROUP))
        .context("cannot bind the uevent socket")?;
    // A smaller buffer only overflows sooner, and an overflow is handled.
    let _ = rustix::net::sockopt::set_socket_recv_buffer_size_force(&socket, BUFFER);
    Ok(socket)
}

/// Reads a waiting message of the kernel. Messages from other senders are skipped.
#[must_use]
pub fn receive(socket: &OwnedFd) -> Received {
    let mut buffer = [0_u8; MESSAGE_MAX];
    loop {
        let (length, sender) =
            match rustix::net::recvfrom(socket, &mut buffer[..], RecvFlags::DONTWAIT) {
                Ok((length, _, sender)) => (length, sender),
                Err(Errno::NOBUFS) => return Received::Overrun,
                Err(Errno::INTR) => continue,
                Err(_) => return Received::Nothing,
            };
        let kernel = sender
            .and_then(|sender| SocketAddrNetlink::try_from(sender).ok())
            .is_some_and(|sender| sender.pid() == 0);
        if kernel && let Some(uevent) = parse(&buffer[..length]) {
            return Received::Message(uevent);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Uevent, parse};

    #[test]
    fn the_fields_are_found_in_any_order() {
        let bytes = b"add@/devices/x\0DEVNAME=input/event0\0ACTION=add\0SUBSYSTEM=input\0";
        let uevent = parse(bytes).unwrap();
        assert_eq!((uevent.action.as_str(), uevent.subsystem.as_str()), ("add", "input"));
        assert_eq!(uevent.device, "input/event0");
    }

    #[test]
    fn hardware_has_a_path_and_a_modalias() {
        let bytes = b"add@/devices/x\0MODALIAS=pci:v1d2\0ACTION=add\0DEVPATH=/devices/x\0";
        let uevent = parse(bytes).unwrap();
        assert_eq!((uevent.path.as_str(), uevent.modalias.as_str()), ("/devices/x", "pci:v1d2"));
    }

    #[test]
    fn a_message_without_an_action_is_ignored() {
        assert_eq!(parse(b"libudev\0\xfe\xed"), None);
        assert_eq!(parse(b""), None);
    }

    proptest! {
        #[test]
        fn fields_are_found_between_any_others(
            before in "([A-Z]{8,9}=[a-z]{0,5}\0){0,3}",
            path in "/[a-z/]{0,20}",
            modalias in "[a-z0-9:]{0,20}",
        ) {
            let fields = format!("{before}ACTION=add\0DEVPATH={path}\0MODALIAS={modalias}\0");
            let expected = Uevent {
                action: "add".into(),
                path,
                modalias,
                ..Uevent::default()
            };
            prop_assert_eq!(parse(format!("add@/x\0{fields}").as_bytes()), Some(expected));
        }

        #[test]
        fn only_bytes_with_an_action_are_a_message(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(parse(&bytes).is_none_or(|uevent| !uevent.action.is_empty()));
        }
    }
}
