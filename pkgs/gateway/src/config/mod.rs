//! The configuration: one TOML file, parsed into types that hold only what is valid.
//!
//! A file can combine two forms. kiagateway's form has the tables `[https_backends]` and
//! `[http_backends]` with lines `"name" = "host:port"`. The gateway's own form has `[[listener]]` and
//! `[[route]]`. A file without `[[listener]]` gets the listeners `https` and `http` on ports 443 and
//! 80. `docs/gateway.md` is the reference of all keys.

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

/// A problem in the file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// Line, counted from 1.
    pub line: usize,
    /// A description of the problem.
    pub text: String,
}

/// The ports of the implicit listeners.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ports {
    /// The port for TLS.
    pub https: u16,
    /// The port for HTTP.
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
    /// Listeners. No two have the same name or the same address.
    pub listeners: Vec<Listener>,
    /// True if the file has a `[[listener]]`; otherwise the listeners are the two implicit ones.
    pub has_listeners: bool,
    /// Routes.
    pub routes: Vec<Route>,
    /// True if a reload may remove all routes or listeners.
    pub allow_empty: bool,
}

impl Config {
    /// Returns what this configuration would remove as a whole if it replaced another: `route` or
    /// `listener`. A file that was cut while it was written looks like that.
    #[must_use]
    pub fn removes(&self, old: &Self) -> Option<&'static str> {
        if self.allow_empty {
            None
        } else if self.routes.is_empty() && !old.routes.is_empty() {
            Some("route")
        } else if !self.has_listeners && old.has_listeners {
            Some("listener")
        } else {
            None
        }
    }
}

/// The protocol of a listener's clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// TLS, from the first byte.
    Tls,
    /// HTTP/1.
    Http,
}

/// A place where clients connect.
#[derive(Debug, Clone, PartialEq)]
pub struct Listener {
    /// The name that routes use: `name`, or the address as it is written.
    pub name: String,
    /// The address to listen on.
    pub address: SocketAddr,
    /// The protocol of the clients.
    pub kind: Kind,
    /// The peers that must send a PROXY header. No other peer may send one.
    pub proxy_in: Vec<IpNet>,
    /// The trusted proxies, whose `X-Forwarded-*` and `Forwarded` fields are passed on.
    pub trusted: Vec<IpNet>,
    /// The maximum number of open connections.
    pub max_connections: Option<u32>,
    /// The maximum number of open connections from one address.
    pub max_per_address: Option<u32>,
    /// The connections' deadlines.
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
    /// For a complete `ClientHello` or request head, from its first byte.
    pub hello: u64,
    /// For all attempts to reach a backend together.
    pub connect: u64,
    /// Without a byte in either direction.
    pub idle: u64,
    /// Without a byte, once one side has stopped sending.
    pub half_closed: u64,
    /// For the whole connection; `None` is forever.
    pub lifetime: Option<u64>,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self { hello: 5_000, connect: 3_000, idle: 300_000, half_closed: 60_000, lifetime: None }
    }
}

/// A set of names and the backends that serve them.
#[derive(Debug, Clone, PartialEq)]
pub struct Route {
    /// The names that the route serves.
    pub names: Vec<Pattern>,
    /// True if the route serves all names that no other route has.
    pub default: bool,
    /// Indices of the listeners that have the route.
    pub listeners: Vec<usize>,
    /// Backends in the order of the file. Only a redirect has no backends.
    pub backends: Vec<Backend>,
    /// The way in which a backend is chosen.
    pub policy: Policy,
    /// The version of the PROXY header that backends get.
    pub proxy_out: Option<ProxyVersion>,
    /// True if the gateway redirects clients to `https://`.
    pub redirect: bool,
    /// Changes in the heads of requests.
    pub headers: Rules,
    /// The route serves only clients that offer one of these protocols.
    pub alpn: Vec<String>,
    /// The checks of the backends.
    pub check: Option<Check>,
    /// The route's line in the file, counted from 1.
    pub line: usize,
}

impl Route {
    /// Returns the name for logs and metrics: the route's first name.
    #[must_use]
    pub fn label(&self) -> String {
        self.names.first().map_or_else(|| "default".to_owned(), ToString::to_string)
    }
}

/// The way in which a backend is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// The first backend that works.
    Ordered,
    /// Each backend in turn.
    RoundRobin,
}

/// A version of the PROXY header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyVersion {
    /// One line of text.
    V1,
    /// Binary, with the client's name as a TLV.
    V2,
}

/// A backend: a host, and a port on it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Backend {
    /// The host.
    pub host: Host,
    /// 1 to 65535.
    pub port: u16,
}

/// A backend's host.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Host {
    /// An address.
    Address(IpAddr),
    /// A name to be resolved.
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

/// The checks of a route's backends.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Check {
    /// The request to send; `None` if it is enough that a connection opens.
    pub http: Option<Get>,
    /// Milliseconds from one check to the next.
    pub interval: u64,
    /// Milliseconds for a check.
    pub timeout: u64,
    /// Successes in a row after which a backend that was down is up.
    pub rise: u32,
    /// Failures in a row after which a backend that was up is down.
    pub fall: u32,
}

/// The request of a check.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Get {
    /// The path, with a leading `/`.
    pub path: String,
    /// The Host field; `None` is the backend's own name.
    pub host: Option<String>,
    /// The expected status; `None` is any from 200 to 399.
    pub status: Option<u16>,
}
