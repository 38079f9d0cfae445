//! Sockets that listen: TCP in one or both families, a Unix socket, or a descriptor that was passed.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::os::fd::{FromRawFd as _, OwnedFd, RawFd};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use kiln_daemon::exit::Exit;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, getsockname, listen,
    socket_with, sockopt,
};

/// Connections that wait in the kernel's queue at most; the kernel may take fewer
/// (`net.core.somaxconn`).
const BACKLOG: i32 = 4096;

/// Where to listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// An address; `::` takes both families.
    Tcp(SocketAddr),
    /// A Unix socket at this path.
    Unix(PathBuf),
    /// A descriptor that listens already.
    Passed(RawFd),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => path.display().fmt(f),
            Self::Passed(number) => write!(f, "descriptor {number}"),
        }
    }
}

/// Listens. From now on clients wait in the kernel's queue.
///
/// A port that is taken is a temporary failure: the program before this one may be ending.
pub fn open(place: &Place) -> anyhow::Result<OwnedFd> {
    let result = match place {
        Place::Tcp(address) => tcp(*address),
        Place::Unix(path) => unix(path),
        Place::Passed(number) => return passed(*number).context(Exit::Config),
    };
    result
        .map_err(|error| {
            let exit = if error == Errno::ADDRINUSE { Exit::TempFail } else { Exit::Config };
            anyhow::Error::new(error).context(exit)
        })
        .with_context(|| format!("listening on {place}"))
}

fn tcp(address: SocketAddr) -> Result<OwnedFd, Errno> {
    let family = if address.is_ipv6() { AddressFamily::INET6 } else { AddressFamily::INET };
    let socket = stream(family)?;
    // Lets the port be taken while connections of the program before are still closing. It does
    // not let two programs listen at once; SO_REUSEPORT would, and is never set.
    sockopt::set_socket_reuseaddr(&socket, true)?;
    // Accepted sockets inherit it: no answer waits for another packet.
    sockopt::set_tcp_nodelay(&socket, true)?;
    if address.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED) {
        sockopt::set_ipv6_v6only(&socket, false)?;
    }
    bind(&socket, &address)?;
    listen(&socket, BACKLOG)?;
    Ok(socket)
}

/// A path that nobody listens on any more is taken over.
fn unix(path: &Path) -> Result<OwnedFd, Errno> {
    let address = SocketAddrUnix::new(path)?;
    let socket = stream(AddressFamily::UNIX)?;
    match bind(&socket, &address) {
        Err(Errno::ADDRINUSE) => {
            let probe =
                socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
            if connect(&probe, &address) != Err(Errno::CONNREFUSED) {
                return Err(Errno::ADDRINUSE);
            }
            rustix::fs::unlink(path)?;
            bind(&socket, &address)?;
        }
        result => result?,
    }
    listen(&socket, BACKLOG)?;
    Ok(socket)
}

fn stream(family: AddressFamily) -> Result<OwnedFd, Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    socket_with(family, SocketType::STREAM, flags, None)
}

fn passed(number: RawFd) -> anyhow::Result<OwnedFd> {
    if number < 3 {
        bail!("descriptor {number} is a standard stream");
    }
    // SAFETY: whoever started this program names a descriptor that was opened for it; nothing in
    // this program has opened one yet that could have this number.
    let socket = unsafe { OwnedFd::from_raw_fd(number) };
    match sockopt::socket_acceptconn(&socket) {
        Ok(true) => {}
        result => {
            // It is not ours, so it is not closed.
            std::mem::forget(socket);
            let why = result.err().map_or("does not listen".to_owned(), |error| error.to_string());
            bail!("descriptor {number}: {why}");
        }
    }
    rustix::io::ioctl_fionbio(&socket, true).context("making the descriptor non-blocking")?;
    rustix::io::fcntl_setfd(&socket, rustix::io::FdFlags::CLOEXEC)?;
    Ok(socket)
}

/// Where a socket listens, as a person would write it.
#[must_use]
pub fn name(socket: &OwnedFd, place: &Place) -> String {
    let address = getsockname(socket).ok().and_then(|name| SocketAddr::try_from(name).ok());
    address.map_or_else(|| place.to_string(), |address| address.to_string())
}

#[cfg(test)]
mod tests {
    use super::{Place, name, open};
    use kiln_daemon::exit::Exit;
    use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
    use std::os::unix::net::UnixStream;

    #[test]
    fn one_socket_takes_both_families() {
        let place = Place::Tcp(SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), 0));
        let Ok(socket) = open(&place) else { return }; // no IPv6 here
        let address: SocketAddr = name(&socket, &place).parse().unwrap();
        TcpStream::connect((Ipv4Addr::LOCALHOST, address.port())).unwrap();
    }

    #[test]
    fn a_port_has_one_owner() {
        let place = Place::Tcp(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0));
        let socket = open(&place).unwrap();
        let taken = Place::Tcp(name(&socket, &place).parse().unwrap());
        assert_eq!(Exit::of(&open(&taken).unwrap_err()), Exit::TempFail);
    }

    #[test]
    fn a_path_that_was_left_behind_is_taken_over_and_a_live_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let place = Place::Unix(path.clone());
        drop(open(&place).unwrap());
        let live = open(&place).unwrap();
        UnixStream::connect(&path).unwrap();
        assert_eq!(Exit::of(&open(&place).unwrap_err()), Exit::TempFail);
        drop(live);
    }

    #[test]
    fn a_passed_descriptor_must_listen() {
        assert!(open(&Place::Passed(0)).is_err());
        assert!(open(&Place::Passed(987)).is_err());
    }
}
