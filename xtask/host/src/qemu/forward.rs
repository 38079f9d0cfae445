//! Ports of the host that are forwarded to ports of the node.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, TcpListener};
use std::str::FromStr;

use anyhow::{Context, Result, anyhow, bail};

/// A TCP port on the host's loopback address that leads to a port of the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forward {
    /// The port on 127.0.0.1.
    pub host: u16,
    /// The port on the node's own address.
    pub guest: u16,
}

/// A choice of the user, `--port NODE=HOST`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortChoice {
    /// The node's port.
    pub guest: u16,
    /// The port on the host.
    pub host: u16,
}

impl FromStr for PortChoice {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let bad = || anyhow!("`{text}` is not NODE-PORT=HOST-PORT, such as 8080=18080");
        let (guest, host) = text.split_once('=').ok_or_else(bad)?;
        let port = |text: &str| text.parse().ok().filter(|port| *port != 0).ok_or_else(bad);
        Ok(Self { guest: port(guest)?, host: port(host)? })
    }
}

impl Forward {
    /// The URL for a browser.
    #[must_use]
    pub fn url(self) -> String {
        format!("http://127.0.0.1:{}/", self.host)
    }
}

/// Forwards the host port of the same number, or the chosen one, to each of the node's `ports`.
pub fn forwards(ports: &[u16], choices: &[PortChoice]) -> Result<Vec<Forward>> {
    let mut chosen = BTreeMap::new();
    for choice in choices {
        if !ports.contains(&choice.guest) {
            bail!(
                "--port {}={}: no pod listens on {} ({})",
                choice.guest,
                choice.host,
                choice.guest,
                list(ports)
            );
        }
        if chosen.insert(choice.guest, choice.host).is_some() {
            bail!("--port has the node's port {} twice", choice.guest);
        }
    }
    let forwards: Vec<Forward> = ports
        .iter()
        .map(|&guest| Forward { host: chosen.get(&guest).copied().unwrap_or(guest), guest })
        .collect();
    for (at, forward) in forwards.iter().enumerate() {
        if forwards[..at].iter().any(|other| other.host == forward.host) {
            bail!(
                "two of the node's ports need port {} of the host; choose with --port NODE=HOST",
                forward.host
            );
        }
    }
    Ok(forwards)
}

fn list(ports: &[u16]) -> String {
    let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
    if ports.is_empty() {
        "no pod has a port".to_owned()
    } else {
        format!("pods listen on {}", ports.join(", "))
    }
}

/// Refuses occupied host ports before the slow work starts.
pub fn check_free(forwards: &[Forward]) -> Result<()> {
    for forward in forwards {
        TcpListener::bind((Ipv4Addr::LOCALHOST, forward.host)).with_context(|| {
            let Forward { host, guest } = forward;
            let other = another(*host);
            format!(
                "cannot listen on 127.0.0.1:{host}, which leads to the node's port {guest}; \
                 stop the program that uses it, or choose another with --port {guest}={other}"
            )
        })?;
    }
    Ok(())
}

/// Proposes a port in place of an occupied one.
fn another(port: u16) -> u16 {
    port.checked_add(10_000).unwrap_or_else(|| port - 10_000)
}

/// Forwards free ports of the host, for tests, where the numbers do not matter.
pub fn free_forwards(ports: &[u16]) -> Result<Vec<Forward>> {
    // All listeners live until all numbers are known, so that they differ.
    let listeners = ports
        .iter()
        .map(|_| {
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
                .context("cannot find a free TCP port on 127.0.0.1")
        })
        .collect::<Result<Vec<_>>>()?;
    let pairs = listeners.iter().zip(ports);
    pairs
        .map(|(listener, &guest)| Ok(Forward { host: listener.local_addr()?.port(), guest }))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_keeps_its_number_unless_another_is_chosen() {
        let choice = "8080=18080".parse().unwrap();
        let made = forwards(&[8080, 9090], &[choice]).unwrap();
        assert_eq!(
            made,
            [Forward { host: 18080, guest: 8080 }, Forward { host: 9090, guest: 9090 }]
        );
    }

    #[test]
    fn impossible_choices_are_refused() {
        let check = |ports: &[u16], choices: &[&str], expected: &str| {
            let choices: Vec<PortChoice> =
                choices.iter().map(|text| text.parse().unwrap()).collect();
            let error = forwards(ports, &choices).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        };
        check(&[8080], &["81=82"], "no pod listens on 81 (pods listen on 8080)");
        check(&[], &["81=82"], "no pod has a port");
        check(&[8080], &["8080=1", "8080=2"], "twice");
        check(&[8080, 9090], &["8080=9090"], "two of the node's ports need port 9090");
        for bad in ["8080", "8080=", "0=1", "1=0", "1=65536", "a=b"] {
            assert!(bad.parse::<PortChoice>().is_err(), "{bad}");
        }
    }

    #[test]
    fn an_occupied_port_is_reported_with_a_free_one() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let host = taken.local_addr().unwrap().port();
        let error = check_free(&[Forward { host, guest: 8080 }]).unwrap_err().to_string();
        assert!(
            error.contains(&format!("127.0.0.1:{host}")) && error.contains("--port 8080="),
            "{error}"
        );
    }

    #[test]
    fn a_proposed_port_is_a_valid_one() {
        assert_eq!((another(80), another(8080), another(65_535)), (10_080, 18_080, 55_535));
    }

    #[test]
    fn free_forwards_differ() {
        let made = free_forwards(&[8080, 9090]).unwrap();
        assert_ne!(made[0].host, made[1].host);
    }
}
