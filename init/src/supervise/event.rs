//! The events that the supervisor takes, and the actions that it returns.

use std::fmt;
use std::time::Duration;

use super::service::Service;
use crate::shutdown::power::Power;

/// The processes that a shutdown stage stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Target {
    /// The process of a service.
    Service(Service),
    /// All processes of all pods.
    Pods,
    /// Every process but PID 1.
    Rest,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Service(service) => service.fmt(f),
            Self::Pods => f.write_str("a pod"),
            Self::Rest => f.write_str("a process"),
        }
    }
}

/// Work of a shutdown stage that a helper does, because it can hang.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Chore {
    /// Records the reason of the shutdown and sets the machine's clock.
    Record,
    /// Unmounts everything that can be unmounted.
    Unmount,
    /// `sync(2)`.
    Sync,
}

/// The timers. Each runs at most once at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Timer {
    /// The time limit for a service to send `READY=1`.
    Start(Service),
    /// The pause before a service is started again.
    Restart(Service),
    /// The time after which a running service counts as stable.
    Stable(Service),
    /// The time limit for a service to feed its watchdog.
    Watchdog(Service),
    /// The interval of probes.
    Probe(Service),
    /// The time limit for a service to end before it is killed.
    Kill(Service),
    /// The time limit of the current shutdown stage.
    Stage,
}

impl Timer {
    /// Returns all timers of a service.
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

    /// Returns the timer's service, or `None` for the timer of a shutdown stage.
    #[must_use]
    pub const fn service(self) -> Option<Service> {
        match self {
            Self::Start(service)
            | Self::Restart(service)
            | Self::Stable(service)
            | Self::Watchdog(service)
            | Self::Probe(service)
            | Self::Kill(service) => Some(service),
            Self::Stage => None,
        }
    }
}

/// An event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Event {
    /// The boot has prepared everything. This is the first event.
    Boot,
    /// A service sent `READY=1`.
    Ready(Service),
    /// A service sent `WATCHDOG=1`.
    Fed(Service),
    /// A service sent `STOPPING=1`.
    Stopping(Service),
    /// A service answered a probe, or refused it.
    Probed(Service, bool),
    /// A service's command has changed: it must be started again with the new one.
    Renewed(Service),
    /// A service ended or could not be started.
    Exited(Service),
    /// A timer expired.
    Due(Timer),
    /// kubelet announced the time that its pods may take to stop, in whole seconds, 0 for none.
    Grace(Duration),
    /// kubelet wants to stop its pods before the node goes down.
    Inhibited,
    /// kubelet has stopped its pods, or no longer wants to.
    Released,
    /// A reboot because of this service is granted and recorded, or it is refused.
    Cure(Service, bool),
    /// A shutdown is requested.
    Shutdown(Power),
    /// No process of a target is left.
    Gone(Target),
    /// A helper has ended.
    Finished(Chore),
}

/// An action.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Starts a service.
    Start(Service),
    /// Starts a timer, or restarts it if it runs.
    Arm(Timer, Duration),
    /// Stops a timer if it runs.
    Disarm(Timer),
    /// Sends a probe to a service and forgets an earlier one.
    Probe(Service),
    /// Sends SIGTERM to a service that is started again with a new command.
    Renew(Service),
    /// Sends SIGABRT, so that a Go program logs the stacks of all goroutines.
    Abort(Service),
    /// Records a reboot because of this service, if one is allowed.
    Record(Service),
    /// Reports to the console.
    Say(Report),
    /// Asks kubelet to stop its pods (`PrepareForShutdown(true)`).
    Announce,
    /// Sends SIGTERM and reports when the target is gone.
    Terminate(Target),
    /// Sends SIGKILL.
    Kill(Target),
    /// Starts a helper and reports when it has ended.
    Run(Chore),
    /// Sets the time after which the machine goes down, whatever happens.
    Deadline(Power, Duration),
    /// Goes down now.
    Finish(Power),
}

/// A decision that the console reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Report {
    /// A service does not become ready, does not feed its watchdog, or does not answer probes.
    Hung(Service),
    /// A service failed so often that it is now retried at the longest pause only.
    AtCap(Service),
    /// The node reboots because a service keeps failing in a trial boot.
    Trial(Service),
    /// The node reboots as a cure because a service keeps failing.
    Cure(Service),
}
