//! The limits of a fetch, and the ways in which it fails.

use std::fmt;
use std::time::Duration;

use crate::guard::lookup::NoAddress;
use crate::guard::policy::Refusal;

/// The limits of one fetch. They bound what a repository costs in time, memory and disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The longest time of a fetch, with the lookup of the name and the unpacking.
    pub time: Duration,
    /// The most bytes that a server may send.
    pub bytes: u64,
    /// The most objects of the commit: folders and files together.
    pub objects: u32,
    /// The most bytes of one file.
    pub file_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            time: Duration::from_mins(2),
            bytes: 512 << 20,
            objects: 100_000,
            file_bytes: 32 << 20,
        }
    }
}

/// A limit that was exceeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// [`Limits::bytes`].
    Bytes(u64),
    /// [`Limits::objects`].
    Objects(u32),
}

/// The reason why a fetch has no result. The texts are shown to tenants, so they name no address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// The rules of the administrator forbid the server.
    Refused(Refusal),
    /// The name of the server cannot be looked up.
    Lookup(String),
    /// The server demands credentials, or rejects the given ones.
    Denied,
    /// The server has no such repository, or hides it.
    NotFound,
    /// The repository has no commit.
    Empty,
    /// The repository has no such branch.
    NoBranch(String),
    /// The time is over.
    TimedOut(Duration),
    /// A limit is exceeded.
    Limit(Limit),
    /// A redirect leads to another scheme, or to no git server.
    Redirect,
    /// The server cannot be reached, or ended the connection.
    Connection(String),
    /// The server's answers are not those of a git server.
    Protocol(String),
    /// The disk of the syncer fails.
    Disk(String),
    /// No host key of the SSH server is known.
    UnknownHost(String),
    /// The SSH server has another host key than the known ones.
    WrongHostKey(String),
    /// The credentials do not fit the URL.
    Credentials(&'static str),
}

impl Failure {
    /// Returns the reason for a condition of Kubernetes: one word in camel case.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Refused(_) => "HostNotAllowed",
            Self::Lookup(_) => "LookupFailed",
            Self::Denied => "AccessDenied",
            Self::NotFound => "RepositoryNotFound",
            Self::Empty => "RepositoryEmpty",
            Self::NoBranch(_) => "BranchNotFound",
            Self::TimedOut(_) => "TimedOut",
            Self::Limit(_) => "LimitExceeded",
            Self::Redirect => "BadRedirect",
            Self::Connection(_) => "ConnectionFailed",
            Self::Protocol(_) => "ProtocolError",
            Self::Disk(_) => "DiskError",
            Self::UnknownHost(_) => "HostKeyUnknown",
            Self::WrongHostKey(_) => "HostKeyMismatch",
            Self::Credentials(_) => "BadCredentials",
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(refusal) => refusal.fmt(f),
            Self::Lookup(error) => write!(f, "cannot look up the git host: {error}"),
            Self::Denied => f.write_str("the git server denies access; check the Secret"),
            Self::NotFound => {
                f.write_str("the git server has no such repository; a private one needs a Secret")
            }
            Self::Empty => f.write_str("the repository is empty; push a first commit"),
            Self::NoBranch(branch) => write!(f, "the repository has no branch {branch:?}"),
            Self::TimedOut(limit) => {
                write!(f, "the git server did not finish within {} s", limit.as_secs())
            }
            Self::Limit(Limit::Bytes(limit)) => {
                write!(f, "the commit has more than {} MiB", limit >> 20)
            }
            Self::Limit(Limit::Objects(limit)) => {
                write!(f, "the commit has more than {limit} files and folders")
            }
            Self::Redirect => {
                f.write_str("the git server redirects to an address that is not allowed")
            }
            Self::Connection(error) => write!(f, "cannot reach the git server: {error}"),
            Self::Protocol(error) => write!(f, "cannot read the git server's answer: {error}"),
            Self::Disk(error) => write!(f, "cannot store the commit: {error}"),
            Self::UnknownHost(host) => write!(
                f,
                "no host key of {host} is known; add its line of known_hosts to the Secret's key \
                 known_hosts, or to the list of the administrator"
            ),
            Self::WrongHostKey(host) => write!(
                f,
                "the git server {host} has another host key than the known ones; nothing was sent to it"
            ),
            Self::Credentials(what) => write!(f, "cannot use the Secret: {what}"),
        }
    }
}

impl std::error::Error for Failure {}

impl From<NoAddress> for Failure {
    fn from(error: NoAddress) -> Self {
        match error {
            NoAddress::Refused(refusal) => Self::Refused(refusal),
            NoAddress::Lookup(error) => Self::Lookup(error.to_string()),
        }
    }
}
