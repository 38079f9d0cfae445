//! The facts, the plan and the sources of change behind kubelet's arguments and files.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::sync::mpsc::Receiver;
use std::time::Instant;

use anyhow::{Context, Result};
use rustix::pipe::{PipeFlags, pipe_with};

use super::host;
use super::late::Late;
use crate::console::kmsg;
use crate::kernel::network;
use crate::kubelet::apply;
use crate::kubelet::cluster::Cluster;
use crate::kubelet::join::Join;
use crate::kubelet::plan::{Facts, Plan, plan};
use crate::kubelet::report::Request;
use crate::log::requests::Requests;
use crate::settings::address::choose;

/// The membership of the node in a cluster.
pub(super) struct Membership {
    pub(super) facts: Facts,
    pub(super) plan: Plan,
    /// The variables of the proxy that both services were given.
    pub(super) proxy: Vec<String>,
    /// The addresses that kubelet was given.
    pub(super) addresses: Vec<IpAddr>,
    /// The drop-ins that kubelet refuses, as names of credentials.
    pub(super) refused: BTreeSet<String>,
    pub(super) late: Option<Late>,
    /// Tells of changed addresses, if the node's settings choose some.
    pub(super) link: Option<OwnedFd>,
    /// The time to look at changed addresses.
    pub(super) look: Option<Instant>,
    /// The pipe for requests from kubelet's log, as bytes that wake the loop.
    pub(super) wake: OwnedFd,
    pub(super) requests: Receiver<Request>,
    /// The pipe and the result of the thread that reads `/var`.
    pub(super) settled: (OwnedFd, OwnedFd),
    pub(super) joining: Option<(Receiver<Option<Cluster>>, Join)>,
}

impl Membership {
    /// Takes over what the boot has planned. The requests come with bytes in `wake`.
    pub(super) fn begin(facts: &Facts, (wake, requests): Requests) -> Result<Self> {
        let addresses = choose(&facts.settings.node_ip, &apply::addresses());
        Ok(Self {
            plan: plan(facts, &addresses),
            proxy: host::proxy(facts),
            facts: facts.clone(),
            addresses,
            refused: BTreeSet::new(),
            late: kmsg::warn_on_error(Late::watch()),
            link: watch_addresses(facts),
            look: Some(Instant::now()),
            wake,
            requests,
            settled: pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)
                .context("cannot make a pipe")?,
            joining: None,
        })
    }

    /// The time at which something must be looked at.
    pub(super) fn due(&self) -> Option<Instant> {
        let late = self.late.as_ref().and_then(Late::due);
        late.into_iter().chain(self.look).min()
    }

    /// Returns the facts without the drop-ins that kubelet refuses.
    pub(super) fn accepted(&self) -> Facts {
        let mut facts = self.facts.clone();
        facts.drop_ins.retain(|(name, _)| !self.refused.contains(name));
        facts
    }
}

/// Listens for changed addresses if the settings of a member choose among them.
pub(super) fn watch_addresses(facts: &Facts) -> Option<OwnedFd> {
    let needed = facts.cluster.is_some() && !facts.settings.node_ip.is_empty();
    needed.then(|| kmsg::warn_on_error(network::watch_addresses())).flatten()
}
