//! The configuration: one TOML file, parsed into types that hold only what is valid.
//!
//! Two forms may stand in one file. kiagateway's has two tables, `[https_backends]` and
//! `[http_backends]`, of `"name" = "host:port"`. Ours has `[[listener]]` and `[[route]]`.
//! A file without `[[listener]]` gets two, `https` and `http`, on ports 443 and 80.
//! `docs/gateway.md` is the reference of all keys.

mod check;
mod raw;
mod read;
#[cfg(test)]
mod tests;

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use crate::http::headers::Rules;
use crate::name::Pattern;

pub use read::parse;

/// Something in the file that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// Line, counted from 1.
    pub line: usize,
    /// What is wrong.
    pub text: String,
}

/// What the implicit listeners are opened on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ports {
    /// For TLS.
    pub https: u16,
    /// For HTTP.
    pub http: u16,
}

impl Default for Ports {
    fn default() -> Self {
        Self { https: 443, http: 80 }
    }
}

/// A whole configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// What to listen on; names and addresses are different from each other.
    pub listeners: Vec<Listener>,
    /// Where connections go.
    pub routes: Vec<Route>,
}

/// What a listener's clients speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// TLS, from the first byte.
    Tls,
    /// HTTP/1.
    Http,
}

/// Where connections come from.
#[derive(Debug, Clone, PartialEq)]
pub struct Listener {
    /// What routes call it: `name`, or the address as it is written.
    pub name: String,
    /// Where it listens.
    pub address: SocketAddr,
    /// What its clients speak.
    pub kind: Kind,
    /// Who must send a PROXY header. Nobody else may.
    pub proxy_in: Vec<IpNet>,
    /// Whose `X-Forwarded-*` and `Forwarded` fields are passed on.
    pub trusted: Vec<IpNet>,
    /// Most connections at once.
    pub max_connections: Option<u32>,
    /// Most connections at once from one address.
    pub max_per_address: Option<u32>,
    /// Its connections' deadlines.
    pub timeouts: Timeouts,
}

/// True if an address is in one of the networks; an IPv4 address in IPv6 form counts as IPv4.
#[must_use]
pub fn contains(networks: &[IpNet], address: IpAddr) -> bool {
    let address = address.to_canonical();
    networks.iter().any(|network| network.contains(&address))
}

/// Deadlines, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// For a whole `ClientHello` or request head, from its beginning.
    pub hello: u64,
    /// For all tries to reach a backend together.
    pub connect: u64,
    /// Without a byte in either direction.
    pub idle: u64,
    /// The same, once one direction has ended.
    pub half_closed: u64,
    /// For the whole connection, if it has an end.
    pub lifetime: Option<u64>,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self { hello: 5_000, connect: 3_000, idle: 300_000, half_closed: 60_000, lifetime: None }
    }
}

/// Where connections go.
#[derive(Debug, Clone, PartialEq)]
pub struct Route {
    /// Whom it is for.
    pub names: Vec<Pattern>,
    /// Whether it is for all names that no other route has.
    pub default: bool,
    /// Indices of the listeners that it serves.
    pub listeners: Vec<usize>,
    /// Where to, in the order of the file. Empty only where it redirects.
    pub backends: Vec<Backend>,
    /// How a backend is chosen.
    pub policy: Policy,
    /// Version of the PROXY header that backends get.
    pub proxy_out: Option<ProxyVersion>,
    /// Answers that the resource is at `https://` instead.
    pub redirect: bool,
    /// Changes in the heads of requests.
    pub headers: Rules,
    /// Only for clients that offer one of these protocols.
    pub alpn: Vec<String>,
    /// How its backends are checked.
    pub check: Option<Check>,
    /// Where it stands in the file, counted from 1.
    pub line: usize,
}

impl Route {
    /// What logs and metrics call it: its first name.
    #[must_use]
    pub fn label(&self) -> String {
        self.names.first().map_or_else(|| "default".to_owned(), ToString::to_string)
    }
}

/// How a backend is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// The first that works.
    Ordered,
    /// One after another.
    RoundRobin,
}

/// Which PROXY header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyVersion {
    /// A line of text.
    V1,
    /// Binary, with the client's name as a TLV.
    V2,
}

/// A backend: a host, and a port on it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Backend {
    /// An address or a name.
    pub host: Host,
    /// 1 to 65535.
    pub port: u16,
}

/// A backend's host.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Host {
    /// As it is.
    Address(IpAddr),
    /// To be resolved.
    Name(String),
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Address(address) => SocketAddr::new(*address, self.port).fmt(f),
            Host::Name(name) => write!(f, "{name}:{}", self.port),
        }
    }
}

/// How a route's backends are checked.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Check {
    /// A GET of this; without it a connection that opens is enough.
    pub http: Option<Get>,
    /// Milliseconds from one check to the next.
    pub interval: u64,
    /// Milliseconds for a check.
    pub timeout: u64,
    /// Good checks in a row that make a backend that is down be up.
    pub rise: u32,
    /// Bad checks in a row that make a backend that is up be down.
    pub fall: u32,
}

/// A request of a check.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Get {
    /// Path, with a leading `/`.
    pub path: String,
    /// The Host field; the backend's own name without it.
    pub host: Option<String>,
    /// The expected status; without it any from 200 to 399.
    pub status: Option<u16>,
}
