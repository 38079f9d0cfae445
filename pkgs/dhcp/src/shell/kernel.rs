//! rtnetlink sockets: one for requests, one for news about interfaces.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use anyhow::Context as _;
use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, recv, sendto, socket_with,
};

use crate::netlink::{Event, Link, list_links, parse};

/// `RTMGRP_LINK`.
const LINK_GROUP: u32 = 1;
/// The kernel replies within microseconds, so silence for this long is an error.
const TIMEOUT: Duration = Duration::from_secs(2);
/// The kernel's upper bound for one packet of a list.
const PACKET_BYTES_MAX: usize = 32 * 1024;

/// The interfaces and routes of the network namespace.
#[derive(Debug)]
pub(super) struct Kernel {
    requests: OwnedFd,
    news: OwnedFd,
}

impl Kernel {
    pub(super) fn open() -> anyhow::Result<Self> {
        let requests = open(SocketFlags::CLOEXEC, 0)?;
        set_socket_timeout(&requests, Timeout::Recv, Some(TIMEOUT))
            .context("cannot set the timeout of a netlink socket")?;
        let news = open(SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, LINK_GROUP)?;
        Ok(Self { requests, news })
    }

    /// Returns all interfaces.
    pub(super) fn links(&self) -> anyhow::Result<Vec<Link>> {
        self.send(&list_links())?;
        let mut links = Vec::new();
        loop {
            for event in receive(&self.requests).context("cannot read the list of interfaces")? {
                match event {
                    Event::Link(link) => links.push(link),
                    Event::Done => return Ok(links),
                    Event::Result(errno) => return Err(Errno::from_raw_os_error(errno).into()),
                    Event::Gone(_) => (),
                }
            }
        }
    }

    /// Sends a change and waits for its result.
    pub(super) fn change(&self, message: &[u8]) -> anyhow::Result<()> {
        self.send(message)?;
        loop {
            for event in receive(&self.requests).context("cannot read the result of a change")? {
                match event {
                    Event::Result(0) => return Ok(()),
                    Event::Result(errno) => return Err(Errno::from_raw_os_error(errno).into()),
                    _ => (),
                }
            }
        }
    }

    /// Returns the news about interfaces that has arrived. `NOBUFS` means that some news was lost.
    pub(super) fn news(&self) -> Result<Vec<Event>, Errno> {
        match receive(&self.news) {
            Err(Errno::AGAIN) => Ok(Vec::new()),
            result => result,
        }
    }

    fn send(&self, message: &[u8]) -> anyhow::Result<()> {
        let kernel = SocketAddrNetlink::new(0, 0);
        sendto(&self.requests, message, SendFlags::empty(), &kernel)
            .context("cannot write to netlink")?;
        Ok(())
    }
}

impl AsFd for Kernel {
    /// The descriptor is readable when news has arrived.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.news.as_fd()
    }
}

fn open(flags: SocketFlags, groups: u32) -> anyhow::Result<OwnedFd> {
    // Without a protocol the number is 0, NETLINK_ROUTE.
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None)
        .context("cannot open a netlink socket")?;
    bind(&socket, &SocketAddrNetlink::new(0, groups)).context("cannot bind a netlink socket")?;
    Ok(socket)
}

fn receive(socket: &OwnedFd) -> Result<Vec<Event>, Errno> {
    let mut buffer = vec![0; PACKET_BYTES_MAX];
    loop {
        match recv(socket, &mut buffer[..], RecvFlags::empty()) {
            Ok((length, _)) => return Ok(parse(&buffer[..length])),
            Err(Errno::INTR) => (),
            Err(errno) => return Err(errno),
        }
    }
}

/// True if the error means that the object to delete does not exist.
pub(super) fn is_gone(error: &anyhow::Error) -> bool {
    let errno = error.downcast_ref::<Errno>().copied();
    matches!(errno, Some(Errno::ADDRNOTAVAIL | Errno::SRCH | Errno::NODEV))
        || error
            .downcast_ref::<io::Error>()
            .is_some_and(|error| error.kind() == io::ErrorKind::NotFound)
}
