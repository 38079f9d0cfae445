//! Makes a lease the machine's configuration, or takes it away.

use std::path::Path;

use anyhow::Context as _;

use super::kernel::{Kernel, is_gone};
use super::store::write;
use crate::Time;
use crate::lease::{Lease, Route};
use crate::netlink::{Change, address, link_mtu, route};
use crate::resolver;

/// The file's name in the resolver's folder.
const RESOLV_CONF: &str = "resolv.conf";

/// Address, routes and MTU. Without the address the lease is worth nothing; a route or an MTU that
/// the kernel refuses is logged.
pub(super) fn configure(
    kernel: &Kernel,
    index: u32,
    lease: &Lease,
    before: Option<&Lease>,
    now: Time,
) -> anyhow::Result<()> {
    if let Some(mtu) = lease.mtu {
        log(kernel.change(&link_mtu(index, mtu)).with_context(|| format!("setting MTU {mtu}")));
    }
    if let Some(before) = before {
        // The old address first: deleting it later would take a new one of its subnet along.
        remove_what_changed(kernel, index, before, lease);
    }
    let ours = (lease.address, lease.prefix);
    kernel
        .change(&address(Change::Put, index, ours, lease.remaining(now)))
        .with_context(|| format!("setting address {}/{}", lease.address, lease.prefix))?;
    for wanted in &lease.routes {
        let message = change_route(Change::Put, index, lease, wanted);
        log(kernel.change(&message).with_context(|| format!("setting {wanted:?}")));
    }
    Ok(())
}

/// Takes address and routes away.
pub(super) fn deconfigure(kernel: &Kernel, index: u32, lease: &Lease) {
    for route in &lease.routes {
        delete(kernel, &change_route(Change::Delete, index, lease, route));
    }
    let ours = (lease.address, lease.prefix);
    delete(kernel, &address(Change::Delete, index, ours, None));
}

fn remove_what_changed(kernel: &Kernel, index: u32, before: &Lease, lease: &Lease) {
    if (before.address, before.prefix) != (lease.address, lease.prefix) {
        return deconfigure(kernel, index, before);
    }
    for route in before.routes.iter().filter(|route| !lease.routes.contains(route)) {
        delete(kernel, &change_route(Change::Delete, index, before, route));
    }
}

/// A gateway outside of the subnet is on the link all the same: nothing else could be meant.
fn change_route(change: Change, index: u32, lease: &Lease, wanted: &Route) -> Vec<u8> {
    let on_link = wanted.gateway.is_some_and(|gateway| !lease.on_link(gateway));
    route(change, index, wanted, lease.address, on_link)
}

/// What is not there any more is as good as deleted.
fn delete(kernel: &Kernel, message: &[u8]) {
    let result = kernel.change(message);
    log(result.or_else(|error| if is_gone(&error) { Ok(()) } else { Err(error) }));
}

fn log(result: anyhow::Result<()>) {
    if let Err(error) = result {
        tracing::warn!("{error:#}");
    }
}

/// Writes `resolv.conf` if it would change. A lease without name servers writes one without.
pub(super) fn write_resolver(folder: &Path, lease: &Lease) -> anyhow::Result<()> {
    let file = folder.join(RESOLV_CONF);
    let text = resolver::text(lease);
    match std::fs::read(&file) {
        Ok(present) if present == text.as_bytes() => Ok(()),
        _ => write(&file, text.as_bytes()),
    }
}
