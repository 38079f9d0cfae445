//! Checks that the node's own services refuse requests without credentials.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::page::is_refusal;
use crate::qemu;

/// Services that are part of the node; pods may serve any client.
const SERVICES: [&str; 3] = ["containerd", "init", "kubelet"];

/// Ports that must refuse or be closed even if `sockets` does not list them: kubelet's API, and the same
/// read-only.
const ALWAYS: [u16; 2] = [10250, 10255];

/// A page that does answer, which proves that requests reach the node: kubelet's health, on loopback.
const CONTROL: &str = "http://127.0.0.1:10248/healthz";

/// The longest time for one request.
const TRY_MAX: Duration = Duration::from_secs(20);

/// Requests every path on every address and port, in plain text and over TLS.
///
/// `addresses` and `sockets` are the probe's pages.
pub fn check(proxy: &str, addresses: &str, sockets: &str, paths: &[String]) -> Result<()> {
    let control = qemu::get_through(proxy, CONTROL, TRY_MAX)
        .context("cannot reach the node's loopback address")?;
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

/// Accepts a closed port, an answer that is not HTTP, and a refusal.
fn check_one(proxy: &str, url: &str) -> Result<()> {
    match qemu::get_through(proxy, url, TRY_MAX) {
        Ok(page) if !is_refusal(page.status) => {
            bail!("{url} answers {} without credentials:\n{}", page.status, page.body)
        }
        _ => Ok(()),
    }
}

/// Returns the TCP ports of the node's services from lines like `tcp 127.0.0.1:10248 kubelet`.
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
    fn only_ports_of_the_nodes_own_services_are_checked() {
        let sockets = "tcp 0.0.0.0:8080 static-server\ntcp 127.0.0.1:10010 containerd\ntcp [::]:10250 kubelet\n\
                       udp 0.0.0.0:68 dhcp\npacket kubelet\ntcp 127.0.0.1:* kubelet\n";
        assert_eq!(ports(sockets).into_iter().collect::<Vec<_>>(), [10010, 10250, 10255]);
    }
}
