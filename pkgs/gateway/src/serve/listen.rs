//! Sockets that listen, and backends that are none of them.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use anyhow::Context as _;
use kiln_daemon::exit::Exit;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, Shutdown, SocketFlags, SocketType, bind, getsockname, listen, shutdown,
    socket_with, sockopt,
};

use crate::config::{Config, Kind, Listener};
use crate::state::{Registry, Snapshot};

/// Connections that wait in the kernel's queue; net.core.somaxconn bounds it.
const BACKLOG: i32 = 4096;

/// Seconds after which the kernel asks a silent client whether it is still there.
const KEEPALIVE: std::time::Duration = std::time::Duration::from_secs(75);

/// Opens the sockets of a configuration; those that `old` has open already stay as they are.
pub(super) fn open(config: &Config, old: Option<&Snapshot>) -> anyhow::Result<Vec<Arc<OwnedFd>>> {
    let known = |listener: &Listener| {
        let old = old?;
        let index = old.config.listeners.iter().position(|other| same(other, listener))?;
        old.sockets.get(index).cloned()
    };
    let open = |listener: &Listener| match known(listener) {
        Some(socket) => Ok(socket),
        None => one(listener.address).map(Arc::new),
    };
    config.listeners.iter().map(open).collect()
}

/// Whether two listeners are one socket. With port 0 the kernel chose a port for a name.
fn same(one: &Listener, other: &Listener) -> bool {
    one.address == other.address && (one.address.port() != 0 || one.name == other.name)
}

fn one(address: SocketAddr) -> anyhow::Result<OwnedFd> {
    let socket = match try_one(address) {
        // A kernel without IPv6: all addresses are IPv4 ones.
        Err(Errno::AFNOSUPPORT) if address.ip().is_unspecified() => {
            try_one(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), address.port()))
        }
        other => other,
    };
    socket
        .map_err(|errno| {
            let later = std::io::Error::from(errno).kind() == ErrorKind::AddrInUse;
            anyhow::Error::new(errno).context(if later { Exit::TempFail } else { Exit::Config })
        })
        .with_context(|| format!("listening on {address}"))
}

/// What is set here is inherited by accepted sockets, and costs them nothing.
///
/// There is no `SO_REUSEPORT`: a second gateway on the port must fail, not take half of the clients.
fn try_one(address: SocketAddr) -> rustix::io::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = socket_with(family, SocketType::STREAM, flags, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, false)?;
    }
    sockopt::set_tcp_nodelay(&socket, true)?;
    sockopt::set_socket_keepalive(&socket, true)?;
    sockopt::set_tcp_keepidle(&socket, KEEPALIVE)?;
    bind(&socket, &address)?;
    listen(&socket, BACKLOG)?;
    Ok(socket)
}

/// Where a listener really listens.
fn local(socket: &OwnedFd) -> Option<SocketAddr> {
    SocketAddr::try_from(getsockname(socket).ok()?).ok()
}

/// Says where clients can connect.
pub(super) fn announce(snapshot: &Snapshot, workers: usize, connections: usize) {
    for (listener, socket) in snapshot.config.listeners.iter().zip(&snapshot.sockets) {
        let kind = if listener.kind == Kind::Tls { "tls" } else { "http" };
        let address = local(socket).unwrap_or(listener.address);
        tracing::info!(kind, "serving {} on {address}", listener.name);
    }
    tracing::info!(routes = snapshot.routes.len(), workers, connections, "ready");
}

/// Closes what the new configuration does not listen on any more. Connections may still hold the
/// old one, so closing the descriptor would come too late.
pub(super) fn retire(old: &Snapshot, new: &Snapshot) {
    let kept = |socket: &Arc<OwnedFd>| new.sockets.iter().any(|other| Arc::ptr_eq(socket, other));
    for socket in old.sockets.iter().filter(|socket| !kept(socket)) {
        let _ = shutdown(socket, Shutdown::Both);
    }
}

/// Leaves out addresses that are listeners of ours.
pub(super) fn without_own(
    snapshot: &Snapshot,
    backend: &str,
    addresses: Vec<SocketAddr>,
) -> Vec<SocketAddr> {
    let ours: Vec<SocketAddr> =
        snapshot.sockets.iter().filter_map(|socket| local(socket)).collect();
    let is_ours = |address: &SocketAddr| ours.iter().any(|own| reaches(*own, *address));
    let (loops, good): (Vec<_>, Vec<_>) = addresses.into_iter().partition(is_ours);
    for address in loops {
        tracing::error!(
            "backend {backend} ({address}) is a listener of this gateway, and not used"
        );
    }
    good
}

/// The same for backends that are addresses.
pub(super) fn forbid_loops(snapshot: &Snapshot, registry: &Registry) {
    for (_, state) in registry.backends() {
        if let crate::config::Host::Address(address) = state.backend.host {
            let address = SocketAddr::new(address, state.backend.port);
            state.set_addresses(without_own(snapshot, &state.text, vec![address]));
        }
    }
}

fn reaches(own: SocketAddr, target: SocketAddr) -> bool {
    let (own_ip, ip) = (own.ip().to_canonical(), target.ip().to_canonical());
    own.port() == target.port() && (own_ip == ip || (own_ip.is_unspecified() && is_local(ip)))
}

/// Whether an address is this machine's: only then can a socket be bound to it.
fn is_local(address: IpAddr) -> bool {
    address.is_loopback() || address.is_unspecified() || UdpSocket::bind((address, 0)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::reaches;

    #[test]
    fn addresses_of_this_machine_reach_a_listener_on_all_addresses() {
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
