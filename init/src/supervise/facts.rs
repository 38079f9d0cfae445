//! Facts that the supervisor's decisions depend on.

use std::time::Duration;

/// The facts. The default is a node without a trial, a cure or a graceful shutdown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Facts {
    /// The time that kubelet's pods may take to stop, in whole seconds, already capped at
    /// `kiln.shutdown-max`.
    pub grace: Duration,
    /// True if kubelet wants to stop its pods before the node goes down.
    pub inhibited: bool,
    /// True if this boot is on trial and has not proven itself yet.
    pub trial: bool,
    /// True if a reboot as a cure may be requested and no request is open. [`super::cure`] counts
    /// the reboots.
    pub cures: bool,
}
