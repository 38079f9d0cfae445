//! Listening sockets, and backends that would lead back to one of them.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use kiln_server::listen::{failure, local_address, tcp, tcp_next_to};
use rustix::io::Errno;
use rustix::net::{Shutdown, shutdown};

use crate::config::{Config, Host, Kind, Listener};
use crate::state::{Registry, Snapshot};

/// The silence after which the kernel probes a client.
const KEEPALIVE: Duration = Duration::from_secs(75);

/// Opens the sockets of a configuration, and keeps those that are already open in `old`.
pub(super) fn open(config: &Config, old: Option<&Snapshot>) -> anyhow::Result<Vec<Arc<OwnedFd>>> {
    let known = |listener: &Listener| {
        let old = old?;
        let index = old.config.listeners.iter().position(|other| same(other, listener))?;
        old.sockets.get(index).cloned()
    };
    let leaving = || {
        let old = old.into_iter().flat_map(|old| old.config.listeners.iter().zip(&old.sockets));
        old.filter(|(other, _)| !config.listeners.iter().any(|listener| same(other, listener)))
    };
    let open = |listener: &Listener| match known(listener) {
        Some(socket) => Ok(socket),
        None => match one(listener.address) {
            Err(Errno::ADDRINUSE) => {
                let port = listener.address.port();
                let same_port = leaving().filter(|(other, _)| other.address.port() == port);
                let sockets: Vec<&OwnedFd> = same_port.map(|(_, socket)| &**socket).collect();
                next_to(listener.address, &sockets)
            }
            other => other,
        }
        .map(Arc::new)
        .map_err(|errno| failure(errno, &listener.address)),
    };
    config.listeners.iter().map(open).collect()
}

/// Opens a socket while sockets of this gateway that will be closed have the same port, such as
/// `127.0.0.1:80` next to `0.0.0.0:80`, so that no client is refused in between.
fn next_to(address: SocketAddr, leaving: &[&OwnedFd]) -> Result<OwnedFd, Errno> {
    if leaving.is_empty() {
        return Err(Errno::ADDRINUSE);
    }
    tcp_next_to(address, Some(KEEPALIVE), leaving)
}

/// True if two listeners share a socket. For port 0 the kernel has chosen a port for each name.
fn same(one: &Listener, other: &Listener) -> bool {
    one.address == other.address && (one.address.port() != 0 || one.name == other.name)
}

fn one(address: SocketAddr) -> Result<OwnedFd, Errno> {
    match tcp(address, Some(KEEPALIVE)) {
        // On a kernel without IPv6, all addresses means all IPv4 addresses.
        Err(Errno::AFNOSUPPORT) if address.ip().is_unspecified() => {
            let address = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), address.port());
            tcp(address, Some(KEEPALIVE))
        }
        other => other,
    }
}

/// Logs the addresses that clients can connect to.
pub(super) fn announce(snapshot: &Snapshot, workers: usize, connections: usize) {
    for (listener, socket) in snapshot.config.listeners.iter().zip(&snapshot.sockets) {
        let kind = if listener.kind == Kind::Tls { "tls" } else { "http" };
        let address = local_address(socket).unwrap_or(listener.address);
        tracing::info!(kind, "serving {} on {address}", listener.name);
    }
    tracing::info!(routes = snapshot.routes.len(), workers, connections, "ready");
}

/// Shuts down the sockets that a new configuration does not have, because dropping them is not enough:
/// connections may hold the old snapshot for a long time.
pub(super) fn retire(old: &Snapshot, new: &Snapshot) {
    let kept = |socket: &Arc<OwnedFd>| new.sockets.iter().any(|other| Arc::ptr_eq(socket, other));
    for socket in old.sockets.iter().filter(|socket| !kept(socket)) {
        let _ = shutdown(socket, Shutdown::Both);
    }
}

/// Returns the addresses of the gateway's own listeners.
pub(super) fn own_addresses(snapshot: &Snapshot) -> Vec<SocketAddr> {
    snapshot.sockets.iter().filter_map(local_address).collect()
}

/// Removes addresses that are listeners of this gateway, because a connection to such an address
/// would loop forever.
pub(super) fn without_own(
    ours: &[SocketAddr],
    backend: &str,
    addresses: Vec<SocketAddr>,
) -> Vec<SocketAddr> {
    let is_ours = |address: &SocketAddr| ours.iter().any(|own| reaches(*own, *address));
    let (loops, good): (Vec<_>, Vec<_>) = addresses.into_iter().partition(is_ours);
    for address in loops {
        tracing::error!(
            "backend {backend} ({address}) is a listener of this gateway and is not used"
        );
    }
    good
}

/// Removes such addresses from backends that are configured by address.
pub(super) fn forbid_loops(snapshot: &Snapshot, registry: &Registry) {
    let ours = own_addresses(snapshot);
    for (_, state) in registry.backends() {
        if let Host::Address(address) = state.backend.host {
            let address = SocketAddr::new(address, state.backend.port);
            state.set_addresses(&without_own(&ours, &state.text, vec![address]));
        }
    }
}

fn reaches(own: SocketAddr, target: SocketAddr) -> bool {
    let (own_ip, ip) = (own.ip().to_canonical(), target.ip().to_canonical());
    own.port() == target.port() && (own_ip == ip || (own_ip.is_unspecified() && is_local(ip)))
}

/// True for an address of this machine, because a socket can be bound to no other address.
fn is_local(address: IpAddr) -> bool {
    address.is_loopback() || address.is_unspecified() || UdpSocket::bind((address, 0)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::reaches;

    #[test]
    fn a_listener_on_all_addresses_is_reached_by_each_address_of_the_machine() {
        let check = |own: &str, target: &str, expected| {
            assert_eq!(
                reaches(own.parse().unwrap(), target.parse().unwrap()),
                expected,
                "{own} {target}"
            );
        };
        check("0.0.0.0:80", "127.0.0.1:80", true);
        check("[::]:80", "127.5.5.5:80", true);
        check("[::]:80", "127.0.0.1:81", false);
        check("127.0.0.1:80", "127.0.0.2:80", false);
        check("[::]:80", "192.0.2.1:80", false);
    }
}
