//! The folder, the addresses and the ports of a git server.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use anyhow::Result;

/// The user of private repositories over HTTP.
pub const USER: &str = "robot";

/// The password of [`USER`].
pub const PASSWORD: &str = "password of private repositories";

/// The folder of private repositories.
pub(super) const PRIVATE: &str = "private";

/// A choice of the caller.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The address on which all ports listen.
    pub listen: Ipv4Addr,
    /// The address by which clients reach the server. It differs from `listen` for virtual machines.
    pub address: Ipv4Addr,
}

/// The places of everything that the programs share.
#[derive(Debug)]
pub(super) struct Layout {
    /// The folder of all files, with an absolute path.
    pub folder: PathBuf,
    /// The choice of the caller.
    pub settings: Settings,
    /// The TCP ports.
    pub ports: Ports,
}

impl Layout {
    /// Returns the path of a file.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Returns the path of a program's script.
    pub fn program(&self, name: &str) -> PathBuf {
        self.path("bin").join(name)
    }
}

/// The TCP ports.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ports {
    /// HTTP.
    pub http: u16,
    /// HTTPS.
    pub https: u16,
    /// HTTPS with a certificate of an unknown authority, for another name, and one that has expired.
    pub wrong: [u16; 3],
    /// The link between nginx and `git http-backend`, on loopback.
    pub cgi: u16,
    /// SSH.
    pub ssh: u16,
}

impl Ports {
    /// Finds free ports.
    pub fn choose() -> Result<Self> {
        let free = crate::port::free;
        Ok(Self {
            http: free()?,
            https: free()?,
            wrong: [free()?, free()?, free()?],
            cgi: free()?,
            ssh: free()?,
        })
    }
}
