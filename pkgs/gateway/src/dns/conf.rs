//! `resolv.conf` (resolv.conf(5)) and `hosts` (hosts(5)).

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// The most name servers, as in the C library.
const SERVERS_MAX: usize = 3;

/// The most search domains.
const DOMAINS_MAX: usize = 32;

/// The content of the two files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conf {
    /// Name servers, in the order of the file.
    pub servers: Vec<SocketAddr>,
    /// Domains that are appended to names.
    pub search: Vec<String>,
    /// A name with at least this many dots is tried as it is first.
    pub ndots: usize,
    /// Milliseconds to wait for a server.
    pub timeout: u64,
    /// Rounds through all servers.
    pub attempts: usize,
    /// Names with known addresses.
    pub hosts: HashMap<String, Vec<IpAddr>>,
}

impl Conf {
    /// Parses the texts of both files. Invalid lines are ignored, as in other resolvers.
    #[must_use]
    pub fn parse(resolv_conf: &str, hosts: &str) -> Self {
        let mut conf = Self {
            servers: Vec::new(),
            search: Vec::new(),
            ndots: 1,
            // Clients wait three seconds for a connection; the C library's five seconds are too long.
            timeout: 1_000,
            attempts: 2,
            hosts: parse_hosts(hosts),
        };
        for line in resolv_conf.lines() {
            conf.line(line);
        }
        if conf.servers.is_empty() {
            conf.servers.push(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 53));
        }
        conf
    }

    fn line(&mut self, line: &str) {
        let mut words = line.split_ascii_whitespace();
        match words.next() {
            Some("nameserver") if self.servers.len() < SERVERS_MAX => {
                let server = words.next().and_then(server);
                self.servers.extend(server);
            }
            Some("search" | "domain") => {
                let domains = words.filter_map(|word| crate::name::normalise(word.as_bytes()));
                self.search = domains.take(DOMAINS_MAX).collect();
            }
            Some("options") => words.for_each(|word| self.option(word)),
            _ => {}
        }
    }

    fn option(&mut self, word: &str) {
        let Some((name, Ok(value))) = word.split_once(':').map(|(n, v)| (n, v.parse::<u64>()))
        else {
            return;
        };
        match name {
            "ndots" => self.ndots = usize::try_from(value.min(15)).unwrap_or(1),
            "timeout" => self.timeout = value.clamp(1, 30) * 1000,
            "attempts" => self.attempts = usize::try_from(value.clamp(1, 5)).unwrap_or(2),
            _ => {}
        }
    }

    /// Returns the full names to query, in order.
    #[must_use]
    pub fn candidates(&self, name: &str) -> Vec<String> {
        if let Some(absolute) = name.strip_suffix('.') {
            return vec![absolute.to_owned()];
        }
        let searched = self.search.iter().map(|domain| format!("{name}.{domain}"));
        let mut names: Vec<String> = searched.filter(|name| name.len() <= 253).collect();
        let dots = name.bytes().filter(|byte| *byte == b'.').count();
        let own = if dots >= self.ndots { 0 } else { names.len() };
        names.insert(own, name.to_owned());
        names
    }

    /// Returns the addresses that `hosts` has for a name.
    #[must_use]
    pub fn host(&self, name: &str) -> Option<&[IpAddr]> {
        self.hosts.get(name.trim_end_matches('.')).map(Vec::as_slice)
    }
}

/// Parses an address, or an address in brackets with a port, as BSD allows and tests need.
fn server(word: &str) -> Option<SocketAddr> {
    if let Ok(address) = word.parse::<IpAddr>() {
        return Some(SocketAddr::new(address, 53));
    }
    let (address, port) = word.strip_prefix('[')?.split_once("]:")?;
    Some(SocketAddr::new(address.parse().ok()?, port.parse().ok()?))
}

fn parse_hosts(text: &str) -> HashMap<String, Vec<IpAddr>> {
    let mut hosts: HashMap<String, Vec<IpAddr>> = HashMap::new();
    for line in text.lines() {
        let line = line.split('#').next().unwrap_or_default();
        let mut words = line.split_ascii_whitespace();
        let Some(address) = words.next().and_then(|word| word.parse().ok()) else { continue };
        for name in words.filter_map(|word| crate::name::normalise(word.as_bytes())) {
            hosts.entry(name).or_default().push(address);
        }
    }
    // RFC 6761 section 6.3.
    hosts.entry("localhost".to_owned()).or_insert_with(|| vec![Ipv4Addr::LOCALHOST.into()]);
    hosts
}
