//! Keeping containerd and kubelet running, and taking the node down in order.
//!
//! [`step`] and [`down`] decide, [`runtime`] does: the first two are a pure state machine that tests
//! walk through completely, the last is one poll loop, with [`inputs`] (what comes from
//! outside), [`units`] (the services) and [`hands`] (what is done to processes) beside it.

use std::fmt;
use std::time::Duration;

use crate::shutdown::power::Power;

pub mod cure;
pub mod down;
mod hands;
pub mod hooks;
pub mod host;
mod inputs;
pub mod notify;
pub mod probe;
mod requests;
pub mod runtime;
pub mod step;
mod units;

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
    /// Writes down why the node goes down, and sets the machine's clock.
    Record,
    /// Unmounts all that can be.
    Unmount,
    /// `sync(2)`.
    Sync,
}

/// Timers; each runs at most once at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Timer {
    /// A service has had its time to say that it is ready.
    Start(Service),
    /// The pause before a service is started again.
    Restart(Service),
    /// A service has run for long enough to count as well.
    Stable(Service),
    /// A service that feeds a watchdog has not done so for too long.
    Watchdog(Service),
    /// Time to ask a service whether it still answers.
    Probe(Service),
    /// A service that was told to end has had its time.
    Kill(Service),
    /// The current shutdown step has had its time.
    Step,
}

impl Timer {
    /// All timers of a service.
    #[must_use]
    pub const fn of(service: Service) -> [Self; 6] {
        [
            Self::Start(service),
            Self::Restart(service),
            Self::Stable(service),
            Self::Watchdog(service),
            Self::Probe(service),
            Self::Kill(service),
        ]
    }

    /// Whose timer it is; `None` for a shutdown step's.
    #[must_use]
    pub const fn service(self) -> Option<Service> {
        match self {
            Self::Start(service)
            | Self::Restart(service)
            | Self::Stable(service)
            | Self::Watchdog(service)
            | Self::Probe(service)
            | Self::Kill(service) => Some(service),
            Self::Step => None,
        }
    }
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Event {
    /// Everything is prepared; the first event.
    Boot,
    /// A service said `READY=1`.
    Ready(Service),
    /// A service said `WATCHDOG=1`.
    Fed(Service),
    /// A service said `STOPPING=1`.
    Stopping(Service),
    /// A service answered a probe, or refused it.
    Probed(Service, bool),
    /// A service ended, or could not be started.
    Exited(Service),
    /// A timer ran out.
    Due(Timer),
    /// kubelet announced how long its pods may take to stop; whole seconds, 0 for none.
    Grace(Duration),
    /// kubelet wants to be asked before the node goes down.
    Inhibited,
    /// kubelet does not, or no longer: its pods have stopped.
    Released,
    /// A reboot because of this service is granted, and written down where it survives; or refused.
    Cure(Service, bool),
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
    /// Start a timer, anew if it runs.
    Arm(Timer, Duration),
    /// Stop a timer, if it runs.
    Disarm(Timer),
    /// Ask a service whether it answers; forget an earlier question.
    Probe(Service),
    /// SIGABRT, so that a Go program writes what all its goroutines do into its log.
    Abort(Service),
    /// Ask for a reboot because of this service, to be counted where it survives.
    Record(Service),
    /// Tell the console.
    Say(Report),
    /// Ask kubelet to stop its pods (`PrepareForShutdown(true)`).
    Announce,
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

/// What the supervisor decided and an operator wants to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Report {
    /// A service does not say that it is ready, does not feed its watchdog, or answers no probe.
    Hung(Service),
    /// A service failed so often that from now on it is tried at the longest pause only.
    AtCap(Service),
    /// The node reboots, because a service keeps failing in a trial boot.
    Trial(Service),
    /// The node reboots as a cure, because a service keeps failing.
    Cure(Service),
}
