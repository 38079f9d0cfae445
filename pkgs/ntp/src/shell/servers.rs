//! The configured servers, their addresses, and the ones that may be queried now.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};
use kiln_daemon::dns::{Family, Question, name_servers};
use kiln_daemon::signal::Termination;

use super::arguments::Server;
use super::exchange::{End, Exchange, collect};
use super::random;
use crate::Time;
use crate::packet::Refusal;

const DNS_PORT: u16 = 53;
/// The most addresses used of one name; more would not improve the time.
const ADDRESSES_MAX: usize = 4;
/// The time for a name server to reply; the next round tries again.
const DNS_TIMEOUT: Duration = Duration::from_secs(2);
/// The pause after `RATE`: twice the longest interval between rounds.
const RATE_PAUSE: Duration = Duration::from_secs(2048);
/// The pause after `DENY`.
const DENY_PAUSE: Duration = Duration::from_hours(24);

/// All configured servers.
#[derive(Debug)]
pub(super) struct Servers {
    all: Vec<Known>,
    /// Addresses that refused requests, and the times until which they are not queried.
    resting: BTreeMap<SocketAddr, Time>,
    /// The error of the latest look-up.
    trouble: Option<String>,
}

#[derive(Debug)]
struct Known {
    server: Server,
    addresses: Vec<SocketAddr>,
}

impl Servers {
    pub(super) fn new(servers: Vec<Server>) -> Self {
        let known = |server| Known { server, addresses: Vec::new() };
        Self {
            all: servers.into_iter().map(known).collect(),
            resting: BTreeMap::new(),
            trouble: None,
        }
    }

    /// Looks up the names that have no addresses. An error is only stored for the log, because other
    /// names may have addresses.
    pub(super) fn resolve(&mut self, file: &Path, termination: &Termination) {
        self.trouble = None;
        for known in self.all.iter_mut().filter(|known| known.addresses.is_empty()) {
            match &known.server {
                Server::Address(address) => known.addresses.push(*address),
                Server::Name(name, port) => match look_up(file, name, termination) {
                    Ok(found) => {
                        let found =
                            found.into_iter().map(|address| SocketAddr::new(address, *port));
                        known.addresses = found.collect();
                    }
                    Err(error) => self.trouble = Some(format!("cannot look up {name}: {error:#}")),
                },
            }
        }
    }

    /// Returns the error of the latest look-up, if it failed.
    pub(super) fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    /// Forgets the addresses of all names, because servers may move.
    pub(super) fn forget_addresses(&mut self) {
        self.all.iter_mut().for_each(|known| known.addresses.clear());
    }

    /// Returns the addresses to query at `now`.
    pub(super) fn due(&mut self, now: Time) -> Vec<SocketAddr> {
        self.resting.retain(|_, until| *until > now);
        let mut addresses: Vec<_> =
            self.all.iter().flat_map(|known| &known.addresses).copied().collect();
        addresses.sort_unstable();
        addresses.dedup();
        addresses.retain(|address| !self.resting.contains_key(address));
        addresses
    }

    /// Stops querying a server for some time if it wants fewer or no requests.
    pub(super) fn refused(&mut self, server: SocketAddr, refusal: Refusal, now: Time) {
        let pause = match refusal {
            Refusal::TooOften => RATE_PAUSE,
            Refusal::Denied => DENY_PAUSE,
            _ => return,
        };
        self.resting.insert(server, now + pause);
    }
}

/// Looks up the addresses of a name: IPv4 if it has any, otherwise IPv6.
fn look_up(file: &Path, name: &str, termination: &Termination) -> anyhow::Result<Vec<IpAddr>> {
    let text =
        std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let servers = name_servers(&text);
    if servers.is_empty() {
        bail!("{} has no name server yet", file.display());
    }
    for family in [Family::V4, Family::V6] {
        let found = query(&servers, name, family, termination)?;
        if !found.is_empty() {
            return Ok(found);
        }
    }
    bail!("no address from the name servers {servers:?}")
}

/// Queries all name servers at once and returns the addresses of the first reply that has any.
fn query(
    servers: &[IpAddr],
    name: &str,
    family: Family,
    termination: &Termination,
) -> anyhow::Result<Vec<IpAddr>> {
    let mut open = Vec::new();
    for server in servers {
        let id = u16::try_from(random()? & 0xffff)?;
        let question =
            Question::new(id, name, family).with_context(|| format!("{name} is not a DNS name"))?;
        match Exchange::begin(SocketAddr::new(*server, DNS_PORT), &question.message(), question) {
            Ok(exchange) => open.push(exchange),
            Err(error) => tracing::debug!("cannot query name server {server}: {error}"),
        }
    }
    let mut found = Vec::new();
    let end = collect(open, DNS_TIMEOUT, termination, |question, packet| {
        let Some(answer) = question.answer(packet) else { return false };
        if found.is_empty() {
            found = answer.addresses();
            found.truncate(ADDRESSES_MAX);
        }
        true
    })?;
    if end == End::Terminated {
        bail!("stopping");
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::{Refusal, Server, Servers};
    use std::net::SocketAddr;
    use std::time::Duration;

    #[test]
    fn a_server_that_wants_fewer_requests_gets_none_for_a_while() {
        let [first, second]: [SocketAddr; 2] =
            ["10.0.0.1:123", "10.0.0.2:123"].map(|text| text.parse().unwrap());
        let mut servers = Servers::new(vec![Server::Address(first), Server::Address(second)]);
        for known in &mut servers.all {
            let Server::Address(address) = known.server else { unreachable!() };
            known.addresses = vec![address, address];
        }
        let at = Duration::from_secs;
        assert_eq!(servers.due(at(0)), [first, second], "each address once");
        servers.refused(first, Refusal::TooOften, at(0));
        servers.refused(second, Refusal::TooFar, at(0));
        assert_eq!(servers.due(at(2047)), [second]);
        assert_eq!(servers.due(at(2048)), [first, second]);
    }
}
