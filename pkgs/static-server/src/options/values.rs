//! The values of all settings.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::RawFd;
use std::path::PathBuf;
use std::time::Duration;

use crate::connection::Limits;
use crate::docroot::DocRoot;
use crate::index::policy::Policy;
use crate::listen::Place;

/// The options of the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// The address to listen on; `::` accepts both families.
    pub address: IpAddr,
    /// The port to listen on; 0 takes a free one.
    pub port: u16,
    /// A Unix socket to listen on instead of the port.
    pub unix: Option<PathBuf>,
    /// An inherited listening descriptor, instead of the port.
    pub descriptor: Option<RawFd>,
    /// The folder with the content.
    pub folder: PathBuf,
    /// A pack with the content, instead of the folder.
    pub pack: Option<PathBuf>,
    /// A folder with the content of each host, instead of the folder.
    pub hosts: Option<PathBuf>,
    /// Sizes and times of connections.
    pub limits: Limits,
    /// The choices for the site.
    pub policy: Policy,
    /// The most bytes of content in memory.
    pub memory_limit: u64,
    /// The time between two checks of the content; `None` for no checks.
    pub poll: Option<Duration>,
    /// True if any problem of the content keeps the server from starting.
    pub strict: bool,
    /// The address for liveness, readiness and metrics.
    pub operators: Option<SocketAddr>,
    /// True if answers are logged.
    pub access_log: bool,
    /// The time after SIGTERM during which the server is not ready but still accepts clients.
    pub drain_delay: Duration,
    /// The number of workers; `None` for one per processor.
    pub workers: Option<usize>,
    /// The most connections at once; `None` for as many as descriptors allow.
    pub connections: Option<usize>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            address: Ipv4Addr::UNSPECIFIED.into(),
            port: 8080,
            unix: None,
            descriptor: None,
            folder: "./content".into(),
            pack: None,
            hosts: None,
            limits: Limits {
                head: 8192,
                time: Duration::from_secs(30),
                idle: Duration::from_secs(5),
            },
            policy: Policy::default(),
            memory_limit: 256 << 20,
            poll: Some(Duration::from_secs(1)),
            strict: false,
            operators: None,
            access_log: false,
            drain_delay: Duration::ZERO,
            workers: None,
            connections: None,
        }
    }
}

impl Options {
    /// Returns the document root.
    #[must_use]
    pub fn docroot(&self) -> DocRoot {
        match (&self.hosts, &self.pack) {
            (Some(hosts), _) => DocRoot::Hosts(hosts.clone()),
            (None, Some(pack)) => DocRoot::Pack(pack.clone()),
            (None, None) => DocRoot::Folder(self.folder.clone()),
        }
    }

    /// Returns the place to listen at.
    #[must_use]
    pub fn place(&self) -> Place {
        match (self.descriptor, &self.unix) {
            (Some(number), _) => Place::Passed(number),
            (None, Some(path)) => Place::Unix(path.clone()),
            (None, None) => Place::Tcp(SocketAddr::new(self.address, self.port)),
        }
    }
}
