//! Keeping containerd and kubelet running, and taking the node down in order.
//!
//! [`step`] decides and [`runtime`] does: the first is a pure state machine that tests walk
//! through completely, the second one poll loop.

use std::fmt;
use std::time::Duration;

use crate::power::Power;

pub mod runtime;
pub mod step;

#[cfg(test)]
mod tests;

/// The host's services, in the order in which they start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Service {
    /// Runs containers; kubelet needs its answer.
    Containerd,
    /// Runs pods.
    Kubelet,
}

/// All services, by [`Service::index`].
pub const SERVICES: [Service; 2] = [Service::Containerd, Service::Kubelet];

impl Service {
    /// Place in arrays.
    #[must_use]
    pub const fn index(self) -> usize {
        match self {
            Self::Containerd => 0,
            Self::Kubelet => 1,
        }
    }

    /// Name on the console and of the log file.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Containerd => "containerd",
            Self::Kubelet => "kubelet",
        }
    }
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What a shutdown step ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Target {
    /// A service's own process.
    Service(Service),
    /// All processes of all pods.
    Pods,
    /// Every process but PID 1.
    Rest,
}

/// What a shutdown step has a helper do, because it can hang.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Chore {
    /// Unmounts all that can be.
    Unmount,
    /// `sync(2)`.
    Sync,
}

/// Timers; each runs at most once at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Timer {
    /// The pause before a service is started again.
    Restart(Service),
    /// A service has been ready for long enough to count as well.
    Stable(Service),
    /// The current shutdown step has had its time.
    Step,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Event {
    /// Everything is prepared; the first event.
    Boot,
    /// A service said `READY=1`.
    Ready(Service),
    /// A service ended, or could not be started.
    Exited(Service),
    /// A timer ran out.
    Due(Timer),
    /// Somebody asked for the node to go down.
    Shutdown(Power),
    /// No process of a target is left.
    Gone(Target),
    /// A helper ended.
    Finished(Chore),
}

/// What to do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Start a service.
    Start(Service),
    /// Start a timer.
    Arm(Timer, Duration),
    /// Stop a timer, if it runs.
    Disarm(Timer),
    /// SIGTERM, and report when it is gone.
    Terminate(Target),
    /// SIGKILL.
    Kill(Target),
    /// Start a helper and report when it ended.
    Run(Chore),
    /// From now on the machine goes down within this time, whatever happens.
    Deadline(Power, Duration),
    /// Go down now.
    Finish(Power),
}
