//! Configures the machine with a lease, or removes the configuration.

use std::path::Path;

use anyhow::Context as _;
use kiln_base::replace::{self, Durability};

use super::kernel::{Kernel, is_gone};
use crate::Time;
use crate::lease::{Lease, Route};
use crate::netlink::{Change, address, link_mtu, route};
use crate::resolver;

/// The file's name in the resolver's folder.
const RESOLV_CONF: &str = "resolv.conf";

/// Sets address, routes and MTU. A refused address is an error, because without the address the lease
/// is useless; a refused route or MTU is only logged.
pub(super) fn configure(
    kernel: &Kernel,
    index: u32,
    lease: &Lease,
    before: Option<&Lease>,
    now: Time,
) -> anyhow::Result<()> {
    if let Some(mtu) = lease.mtu {
        log(kernel.change(&link_mtu(index, mtu)).with_context(|| format!("cannot set MTU {mtu}")));
    }
    if let Some(before) = before {
        // The old address goes first, because deleting it later would also delete a new address in its
        // subnet.
        remove_differences(kernel, index, before, lease);
    }
    let ours = (lease.address, lease.prefix);
    kernel
        .change(&address(Change::Put, index, ours, lease.remaining(now)))
        .with_context(|| format!("cannot set address {}/{}", lease.address, lease.prefix))?;
    for wanted in &lease.routes {
        let message = change_route(Change::Put, index, lease, wanted);
        log(kernel.change(&message).with_context(|| format!("cannot set {wanted:?}")));
    }
    Ok(())
}

/// Removes address and routes.
pub(super) fn deconfigure(kernel: &Kernel, index: u32, lease: &Lease) {
    for route in &lease.routes {
        delete(kernel, &change_route(Change::Delete, index, lease, route));
    }
    let ours = (lease.address, lease.prefix);
    delete(kernel, &address(Change::Delete, index, ours, None));
}

fn remove_differences(kernel: &Kernel, index: u32, before: &Lease, lease: &Lease) {
    if (before.address, before.prefix) != (lease.address, lease.prefix) {
        return deconfigure(kernel, index, before);
    }
    for route in before.routes.iter().filter(|route| !lease.routes.contains(route)) {
        delete(kernel, &change_route(Change::Delete, index, before, route));
    }
}

/// Changes a route. A gateway outside the subnet must be on the link, because otherwise it would be
/// unreachable.
fn change_route(change: Change, index: u32, lease: &Lease, wanted: &Route) -> Vec<u8> {
    let on_link = wanted.gateway.is_some_and(|gateway| !lease.on_link(gateway));
    route(change, index, wanted, lease.address, on_link)
}

/// Deletes an object; an object that no longer exists is not an error.
fn delete(kernel: &Kernel, message: &[u8]) {
    let result = kernel.change(message);
    log(result.or_else(|error| if is_gone(&error) { Ok(()) } else { Err(error) }));
}

fn log(result: anyhow::Result<()>) {
    if let Err(error) = result {
        tracing::warn!("{error:#}");
    }
}

/// Replaces `resolv.conf` if it would change, even if the lease has no name servers.
pub(super) fn write_resolver(folder: &Path, lease: &Lease) -> anyhow::Result<()> {
    let file = folder.join(RESOLV_CONF);
    let text = resolver::text(lease);
    match std::fs::read(&file) {
        Ok(present) if present == text.as_bytes() => Ok(()),
        _ => replace::write(&file, text.as_bytes(), 0o644, Durability::None)
            .with_context(|| format!("cannot write {}", file.display())),
    }
}
