//! rtnetlink sockets: one for questions and changes, one for news about interfaces.

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
/// The kernel answers within microseconds; a longer silence is an error and not a reason to hang.
const PATIENCE: Duration = Duration::from_secs(2);
/// The kernel's own upper bound for one packet of a list.
const BUFFER: usize = 32 * 1024;

/// The interfaces and routes of the network namespace.
#[derive(Debug)]
pub(super) struct Kernel {
    requests: OwnedFd,
    news: OwnedFd,
}

impl Kernel {
    pub(super) fn open() -> anyhow::Result<Self> {
        let requests = open(SocketFlags::CLOEXEC, 0)?;
        set_socket_timeout(&requests, Timeout::Recv, Some(PATIENCE))
            .context("setting a netlink socket's time-out")?;
        let news = open(SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, LINK_GROUP)?;
        Ok(Self { requests, news })
    }

    /// All interfaces.
    pub(super) fn links(&self) -> anyhow::Result<Vec<Link>> {
        self.send(&list_links())?;
        let mut links = Vec::new();
        loop {
            for event in receive(&self.requests).context("reading the list of interfaces")? {
                match event {
                    Event::Link(link) => links.push(link),
                    Event::Done => return Ok(links),
                    Event::Result(errno) => return Err(Errno::from_raw_os_error(errno).into()),
                    Event::Gone(_) => (),
                }
            }
        }
    }

    /// Sends a change and returns the kernel's verdict.
    pub(super) fn change(&self, message: &[u8]) -> anyhow::Result<()> {
        self.send(message)?;
        loop {
            for event in receive(&self.requests).context("reading the kernel's verdict")? {
                match event {
                    Event::Result(0) => return Ok(()),
                    Event::Result(errno) => return Err(Errno::from_raw_os_error(errno).into()),
                    _ => (),
                }
            }
        }
    }

    /// News about interfaces; empty when there are none. `Err(NOBUFS)`: some were lost.
    pub(super) fn news(&self) -> Result<Vec<Event>, Errno> {
        match receive(&self.news) {
            Err(Errno::AGAIN) => Ok(Vec::new()),
            result => result,
        }
    }

    fn send(&self, message: &[u8]) -> anyhow::Result<()> {
        let kernel = SocketAddrNetlink::new(0, 0);
        sendto(&self.requests, message, SendFlags::empty(), &kernel)
            .context("writing to netlink")?;
        Ok(())
    }
}

impl AsFd for Kernel {
    /// Readable when there are news.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.news.as_fd()
    }
}

fn open(flags: SocketFlags, groups: u32) -> anyhow::Result<OwnedFd> {
    // No protocol is protocol 0, NETLINK_ROUTE.
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None)
        .context("opening a netlink socket")?;
    bind(&socket, &SocketAddrNetlink::new(0, groups)).context("binding a netlink socket")?;
    Ok(socket)
}

fn receive(socket: &OwnedFd) -> Result<Vec<Event>, Errno> {
    let mut buffer = vec![0; BUFFER];
    loop {
        match recv(socket, &mut buffer[..], RecvFlags::empty()) {
            Ok((length, _)) => return Ok(parse(&buffer[..length])),
            Err(Errno::INTR) => (),
            Err(errno) => return Err(errno),
        }
    }
}

/// Whether the verdict is that there is nothing to delete.
pub(super) fn is_gone(error: &anyhow::Error) -> bool {
    let errno = error.downcast_ref::<Errno>().copied();
    matches!(errno, Some(Errno::ADDRNOTAVAIL | Errno::SRCH | Errno::NODEV))
        || error
            .downcast_ref::<io::Error>()
            .is_some_and(|error| error.kind() == io::ErrorKind::NotFound)
}
