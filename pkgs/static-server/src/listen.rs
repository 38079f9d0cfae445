//! Sockets that listen: TCP in one or both families, a Unix socket, or a descriptor that was passed.

use std::fmt;
use std::net::SocketAddr;
use std::os::fd::{OwnedFd, RawFd};
use std::path::PathBuf;

use anyhow::Context as _;
use kiln_daemon::exit::Exit;
use kiln_server::listen;

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
        Place::Tcp(address) => listen::tcp(*address, None),
        Place::Unix(path) => listen::unix(path),
        Place::Passed(number) => return listen::inherited(*number).context(Exit::Config),
    };
    result.map_err(|errno| listen::failure(errno, place))
}

/// Where a socket listens, as a person would write it.
#[must_use]
pub fn name(socket: &OwnedFd, place: &Place) -> String {
    listen::local_address(socket).map_or_else(|| place.to_string(), |address| address.to_string())
}
