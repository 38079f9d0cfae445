//! TCP ports of this host for programs that start later.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Result, bail};

/// The range of ports. Linux gives ports above it (`ip_local_port_range`) to outgoing connections, of
/// which an API server alone has a hundred, and such a connection could take a port meanwhile.
const START: u16 = 20_000;
const END: u16 = 32_000;

/// Finds a free port of 127.0.0.1, a different one at each call.
pub fn free() -> Result<u16> {
    static CALLS: AtomicU32 = AtomicU32::new(0);
    let count = u32::from(END - START);
    // Several builders on one host begin at different ports.
    let first = std::process::id().wrapping_mul(97);
    for _ in 0..count {
        let at = first.wrapping_add(CALLS.fetch_add(1, Ordering::Relaxed)) % count;
        let port = START + u16::try_from(at)?;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("cannot find a free TCP port on 127.0.0.1 from {START} to {END}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_differ_and_are_not_those_of_outgoing_connections() {
        let mut ports: Vec<u16> = (0..20).map(|_| free().unwrap()).collect();
        assert!(ports.iter().all(|port| (START..END).contains(port)), "{ports:?}");
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), 20);
    }
}
