//! Facts that decisions depend on.

use std::time::Duration;

/// What the supervisor has been told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Facts {
    /// How long kubelet's pods may take to stop, in whole seconds; capped by who reports it.
    pub grace: Duration,
    /// kubelet wants to be asked before the node goes down.
    pub inhibited: bool,
    /// This boot is on trial and has not proven itself yet.
    pub trial: bool,
    /// A reboot may be asked for as a cure, and no question is open. How often is not decided here.
    pub cures: bool,
}
