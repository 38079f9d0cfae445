//! The listening socket that the options select.

use std::fmt;
use std::net::SocketAddr;
use std::os::fd::{OwnedFd, RawFd};
use std::path::PathBuf;

use anyhow::Context as _;
use kiln_daemon::exit::Exit;
use kiln_server::listen;

/// The place to listen at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// An address; `::` accepts both families.
    Tcp(SocketAddr),
    /// A Unix socket at this path.
    Unix(PathBuf),
    /// A listening descriptor that the parent process opened.
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

/// Starts to listen. From then on clients wait in the kernel's queue.
pub fn open(place: &Place) -> anyhow::Result<OwnedFd> {
    let result = match place {
        Place::Tcp(address) => listen::tcp(*address, None),
        Place::Unix(path) => listen::unix(path),
        Place::Passed(number) => return listen::inherited(*number).context(Exit::Config),
    };
    result.map_err(|errno| listen::failure(errno, place))
}

/// Returns the place that a socket listens at, for the log.
#[must_use]
pub fn name(socket: &OwnedFd, place: &Place) -> String {
    listen::local_address(socket).map_or_else(|| place.to_string(), |address| address.to_string())
}
