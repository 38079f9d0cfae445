//! The values of all settings.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::RawFd;
use std::path::PathBuf;
use std::time::Duration;

use crate::connection::Limits;
use crate::index::policy::Policy;
use crate::listen::Place;
use crate::source::Source;

/// How to serve.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Address to listen on; `::` takes both families.
    pub address: IpAddr,
    /// Port to listen on; 0 takes a free one.
    pub port: u16,
    /// Unix socket to listen on in place of the port.
    pub unix: Option<PathBuf>,
    /// Descriptor that listens already, in place of the port.
    pub descriptor: Option<RawFd>,
    /// Folder with the content.
    pub folder: PathBuf,
    /// Pack with the content, in place of the folder.
    pub pack: Option<PathBuf>,
    /// Folder with the content of each host, in place of the folder.
    pub hosts: Option<PathBuf>,
    /// Sizes and times of connections.
    pub limits: Limits,
    /// How the content is presented.
    pub policy: Policy,
    /// Most bytes of content in memory.
    pub memory_limit: u64,
    /// Time between two looks at the content; none for never.
    pub poll: Option<Duration>,
    /// What would be left out or is wrong ends the program at the start.
    pub strict: bool,
    /// Address for live, ready and metrics; none for none.
    pub operators: Option<SocketAddr>,
    /// Whether answers are logged.
    pub access_log: bool,
    /// Time between SIGTERM and the end of accepting, with readiness false.
    pub drain_delay: Duration,
    /// Number of threads that serve; none for as many as there are processors.
    pub workers: Option<usize>,
    /// Most connections at once; none for as many as descriptors allow.
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
    /// Where the content comes from.
    #[must_use]
    pub fn source(&self) -> Source {
        match (&self.hosts, &self.pack) {
            (Some(hosts), _) => Source::Hosts(hosts.clone()),
            (None, Some(pack)) => Source::Pack(pack.clone()),
            (None, None) => Source::Folder(self.folder.clone()),
        }
    }

    /// Where to listen.
    #[must_use]
    pub fn place(&self) -> Place {
        match (self.descriptor, &self.unix) {
            (Some(number), _) => Place::Passed(number),
            (None, Some(path)) => Place::Unix(path.clone()),
            (None, None) => Place::Tcp(SocketAddr::new(self.address, self.port)),
        }
    }
}
