//! Whether the node's own services refuse who shows no credentials.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::page::is_refusal;
use crate::qemu;

/// Services that are part of the node; pods may serve whom they like.
const SERVICES: [&str; 3] = ["containerd", "init", "kubelet"];

/// Ports of kubelet's API that must be refused or closed, whoever listens: the API, the same read-only.
const ALWAYS: [u16; 2] = [10250, 10255];

/// What does answer, to see that questions arrive at all: kubelet's health, on loopback.
const CONTROL: &str = "http://127.0.0.1:10248/healthz";

/// How long one question may take.
const TRY: Duration = Duration::from_secs(20);

/// Asks every path on every address and port, in plain text and over TLS.
///
/// `addresses` and `sockets` are the probe's pages.
pub fn check(proxy: &str, addresses: &str, sockets: &str, paths: &[String]) -> Result<()> {
    let control = qemu::get_through(proxy, CONTROL, TRY)
        .context("nothing arrives at the node's loopback address")?;
    ensure!(control.status == 200, "{CONTROL} answers {}", control.status);
    for address in addresses.lines() {
        for port in ports(sockets) {
            for path in paths {
                for scheme in ["http", "https"] {
                    check_one(proxy, &format!("{scheme}://{address}:{port}{path}"))?;
                }
            }
        }
    }
    Ok(())
}

/// Closed, no answer that can be understood, and a refusal are all right.
fn check_one(proxy: &str, url: &str) -> Result<()> {
    match qemu::get_through(proxy, url, TRY) {
        Ok(page) if !is_refusal(page.status) => {
            bail!("{url} answers {} to who shows no credentials:\n{}", page.status, page.body)
        }
        _ => Ok(()),
    }
}

/// TCP ports of the node's services, out of lines like `tcp 127.0.0.1:10248 kubelet`.
fn ports(sockets: &str) -> BTreeSet<u16> {
    let port = |line: &str| {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let ["tcp", address, owner] = words[..] else { return None };
        SERVICES.contains(&owner).then(|| address.rsplit_once(':')?.1.parse().ok()).flatten()
    };
    sockets.lines().filter_map(port).chain(ALWAYS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_nodes_own_ports_are_asked() {
        let sockets = "tcp 0.0.0.0:8080 static-server\ntcp 127.0.0.1:10010 containerd\ntcp [::]:10250 kubelet\n\
                       udp 0.0.0.0:68 dhcp\npacket kubelet\ntcp 127.0.0.1:* kubelet\n";
        assert_eq!(ports(sockets).into_iter().collect::<Vec<_>>(), [10010, 10250, 10255]);
    }
}
