//! The configured servers with their addresses, and which of them may be asked now.

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
/// More addresses of one name give no better time.
const MOST_ADDRESSES: usize = 4;
/// A name server that needs longer is as good as none; the next round asks again.
const DNS_PATIENCE: Duration = Duration::from_secs(2);
/// After `RATE`: the longest of our intervals, doubled. After `DENY`: a day.
const TOO_OFTEN: Duration = Duration::from_secs(2048);
const DENIED: Duration = Duration::from_hours(24);

/// All servers.
#[derive(Debug)]
pub(super) struct Servers {
    all: Vec<Known>,
    /// Addresses that asked not to be asked, and until when.
    resting: BTreeMap<SocketAddr, Time>,
    /// Why the newest look-up failed.
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

    /// Looks up the names without addresses. A failure is only kept for the log: other names may do.
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
                    Err(error) => self.trouble = Some(format!("looking up {name}: {error:#}")),
                },
            }
        }
    }

    /// Why the newest look-up failed, if it did.
    pub(super) fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    /// Forgets what names lead to: servers move.
    pub(super) fn forget_addresses(&mut self) {
        self.all.iter_mut().for_each(|known| known.addresses.clear());
    }

    /// Whom to ask at `now`.
    pub(super) fn due(&mut self, now: Time) -> Vec<SocketAddr> {
        self.resting.retain(|_, until| *until > now);
        let mut addresses: Vec<_> =
            self.all.iter().flat_map(|known| &known.addresses).copied().collect();
        addresses.sort_unstable();
        addresses.dedup();
        addresses.retain(|address| !self.resting.contains_key(address));
        addresses
    }

    /// Heeds a server's wish.
    pub(super) fn refused(&mut self, server: SocketAddr, refusal: Refusal, now: Time) {
        let pause = match refusal {
            Refusal::TooOften => TOO_OFTEN,
            Refusal::Denied => DENIED,
            _ => return,
        };
        self.resting.insert(server, now + pause);
    }
}

/// The addresses of a name: IPv4 if it has any, else IPv6.
fn look_up(file: &Path, name: &str, termination: &Termination) -> anyhow::Result<Vec<IpAddr>> {
    let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
    let servers = name_servers(&text);
    if servers.is_empty() {
        bail!("{} names no name server yet", file.display());
    }
    for family in [Family::V4, Family::V6] {
        let found = ask(&servers, name, family, termination)?;
        if !found.is_empty() {
            return Ok(found);
        }
    }
    bail!("no address from {servers:?}")
}

/// Asks all name servers at once and takes the first answer with an address in it.
fn ask(
    servers: &[IpAddr],
    name: &str,
    family: Family,
    termination: &Termination,
) -> anyhow::Result<Vec<IpAddr>> {
    let mut open = Vec::new();
    for server in servers {
        let id = u16::try_from(random()? & 0xffff)?;
        let question = Question::new(id, name, family).context("not a DNS name")?;
        match Exchange::begin(SocketAddr::new(*server, DNS_PORT), &question.message(), question) {
            Ok(exchange) => open.push(exchange),
            Err(error) => tracing::debug!("asking name server {server}: {error}"),
        }
    }
    let mut found = Vec::new();
    let end = collect(open, DNS_PATIENCE, termination, |question, packet| {
        let Some(answer) = question.answer(packet) else { return false };
        if found.is_empty() {
            found = answer.addresses();
            found.truncate(MOST_ADDRESSES);
        }
        true
    })?;
    if end == End::Terminated {
        bail!("ending");
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::{Refusal, Server, Servers};
    use std::net::SocketAddr;
    use std::time::Duration;

    #[test]
    fn a_server_that_asks_for_rest_gets_it() {
        let [first, second]: [SocketAddr; 2] =
            ["10.0.0.1:123", "10.0.0.2:123"].map(|text| text.parse().unwrap());
        let mut servers = Servers::new(vec![Server::Address(first), Server::Address(second)]);
        for known in &mut servers.all {
            let Server::Address(address) = known.server else { unreachable!() };
            known.addresses = vec![address, address];
        }
        let at = Duration::from_secs;
        assert_eq!(servers.due(at(0)), [first, second], "each once");
        servers.refused(first, Refusal::TooOften, at(0));
        servers.refused(second, Refusal::TooFar, at(0));
        assert_eq!(servers.due(at(2047)), [second]);
        assert_eq!(servers.due(at(2048)), [first, second]);
    }
}
