//! Listening sockets: TCP in one or both families, a Unix socket, or an inherited descriptor.
//!
//! No socket has `SO_REUSEPORT`: a second server on the same port must fail instead of taking half
//! of the clients.

use std::fmt::Display;
use std::net::SocketAddr;
use std::os::fd::{AsFd, FromRawFd as _, OwnedFd, RawFd};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};
use kiln_daemon::exit::Exit;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, getsockname, listen,
    socket_with, sockopt,
};

/// The most connections in the kernel's accept queue; `net.core.somaxconn` may lower it.
const BACKLOG_MAX: i32 = 4096;

/// The lowest descriptor that is not a standard stream.
const FIRST_INHERITED: RawFd = 3;

/// Listens on a TCP address; an unspecified IPv6 address accepts both families.
///
/// Accepted sockets inherit the options that are set here: no delay for small writes and, with
/// `keepalive`, a probe of clients that have been silent for that long.
pub fn tcp(address: SocketAddr, keepalive: Option<Duration>) -> rustix::io::Result<OwnedFd> {
    let socket = prepared(address, keepalive)?;
    bind(&socket, &address)?;
    listen(&socket, BACKLOG_MAX)?;
    Ok(socket)
}

/// Listens on a TCP address whose port some of the caller's own listening sockets have on other
/// addresses, such as the unspecified one. The caller closes those sockets afterwards.
///
/// All sockets have `SO_REUSEPORT` only during bind(2) and listen(2), which both look for conflicts,
/// so that no other process can share the port later.
pub fn tcp_next_to(
    address: SocketAddr,
    keepalive: Option<Duration>,
    others: &[&OwnedFd],
) -> rustix::io::Result<OwnedFd> {
    let socket = prepared(address, keepalive)?;
    let share = |shared| {
        let mut all = others.iter().copied().chain([&socket]);
        all.try_for_each(|socket| sockopt::set_socket_reuseport(socket, shared))
    };
    share(true)?;
    let opened = bind(&socket, &address).and_then(|()| listen(&socket, BACKLOG_MAX));
    share(false)?;
    opened.map(|()| socket)
}

/// Makes a socket with its options, which is not bound yet.
fn prepared(address: SocketAddr, keepalive: Option<Duration>) -> rustix::io::Result<OwnedFd> {
    let family = if address.is_ipv6() { AddressFamily::INET6 } else { AddressFamily::INET };
    let socket = stream(family)?;
    // Frees the port while connections of an earlier process are still closing. Two processes
    // still cannot listen at the same time.
    sockopt::set_socket_reuseaddr(&socket, true)?;
    sockopt::set_tcp_nodelay(&socket, true)?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, false)?;
    }
    if let Some(silence) = keepalive {
        sockopt::set_socket_keepalive(&socket, true)?;
        sockopt::set_tcp_keepidle(&socket, silence)?;
    }
    Ok(socket)
}

/// Listens on a Unix socket; replaces a stale socket file, on which no process listens.
pub fn unix(path: &Path) -> rustix::io::Result<OwnedFd> {
    let address = SocketAddrUnix::new(path)?;
    let socket = stream(AddressFamily::UNIX)?;
    match bind(&socket, &address) {
        Err(Errno::ADDRINUSE) => {
            let flags = SocketFlags::CLOEXEC;
            let probe = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
            if connect(&probe, &address) != Err(Errno::CONNREFUSED) {
                return Err(Errno::ADDRINUSE);
            }
            rustix::fs::unlink(path)?;
            bind(&socket, &address)?;
        }
        result => result?,
    }
    listen(&socket, BACKLOG_MAX)?;
    Ok(socket)
}

fn stream(family: AddressFamily) -> rustix::io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    socket_with(family, SocketType::STREAM, flags, None)
}

/// Takes over a listening socket that the parent process left open at this number.
///
/// Must be called before this process opens its own descriptors, because one of them could get the
/// same number. Fails for a standard stream, and for a descriptor that does not listen.
pub fn inherited(number: RawFd) -> anyhow::Result<OwnedFd> {
    if number < FIRST_INHERITED {
        bail!("descriptor {number} is a standard stream");
    }
    // SAFETY: the parent process names a descriptor that it opened for this process, and by the
    // contract above this process has not opened one with that number.
    let socket = unsafe { OwnedFd::from_raw_fd(number) };
    match sockopt::socket_acceptconn(&socket) {
        Ok(true) => {}
        result => {
            // The descriptor stays open, because another part of the process may own it.
            std::mem::forget(socket);
            let why = result.err().map_or("does not listen".to_owned(), |error| error.to_string());
            bail!("descriptor {number}: {why}");
        }
    }
    let context = || format!("cannot prepare descriptor {number}");
    rustix::io::ioctl_fionbio(&socket, true).with_context(context)?;
    rustix::io::fcntl_setfd(&socket, rustix::io::FdFlags::CLOEXEC).with_context(context)?;
    Ok(socket)
}

/// Wraps the error of [`tcp`] or [`unix`] with the place and an exit code.
///
/// An address in use is a temporary failure, because the previous process may still be stopping.
/// Any other error is a configuration error.
#[must_use]
pub fn failure(errno: Errno, place: &impl Display) -> anyhow::Error {
    let exit = if errno == Errno::ADDRINUSE { Exit::TempFail } else { Exit::Config };
    anyhow::Error::new(errno).context(exit).context(format!("cannot listen on {place}"))
}

/// Returns the address that a TCP socket is bound to, with the port that the kernel chose for port
/// 0.
#[must_use]
pub fn local_address(socket: &impl AsFd) -> Option<SocketAddr> {
    SocketAddr::try_from(getsockname(socket).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::{failure, inherited, local_address, tcp, unix};
    use kiln_daemon::exit::Exit;
    use rustix::io::Errno;
    use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
    use std::os::unix::net::UnixStream;
    use std::time::Duration;

    fn loopback() -> SocketAddr {
        SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0)
    }

    #[test]
    fn one_socket_accepts_both_families() {
        let socket = match tcp(SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), 0), None) {
            // A kernel without IPv6 cannot run this test.
            Err(Errno::AFNOSUPPORT) => return,
            result => result.unwrap(),
        };
        let port = local_address(&socket).unwrap().port();
        TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
        TcpStream::connect((Ipv6Addr::LOCALHOST, port)).unwrap();
    }

    #[test]
    fn a_port_has_one_owner() {
        let socket = tcp(loopback(), Some(Duration::from_secs(75))).unwrap();
        let taken = local_address(&socket).unwrap();
        assert_eq!(tcp(taken, None).unwrap_err(), Errno::ADDRINUSE);
    }

    #[test]
    fn an_address_in_use_may_work_later_and_other_errors_do_not() {
        let error = failure(Errno::ADDRINUSE, &"0.0.0.0:80");
        assert_eq!(Exit::of(&error), Exit::TempFail);
        assert!(format!("{error:#}").starts_with("cannot listen on 0.0.0.0:80: "));
        assert_eq!(Exit::of(&failure(Errno::ACCESS, &"0.0.0.0:80")), Exit::Config);
    }

    #[test]
    fn a_stale_socket_file_is_replaced_and_a_live_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        drop(unix(&path).unwrap());
        let live = unix(&path).unwrap();
        UnixStream::connect(&path).unwrap();
        assert_eq!(unix(&path).unwrap_err(), Errno::ADDRINUSE);
        drop(live);
    }

    #[test]
    fn an_inherited_descriptor_must_listen() {
        assert!(inherited(0).is_err());
        assert!(inherited(987).is_err());
    }
}
