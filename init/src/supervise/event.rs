//! What the supervisor is told, and what it answers.

use std::time::Duration;

use super::service::Service;
use crate::shutdown::power::Power;

/// What a shutdown stage ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Target {
    /// A service's own process.
    Service(Service),
    /// All processes of all pods.
    Pods,
    /// Every process but PID 1.
    Rest,
}

/// What a shutdown stage has a helper do, because it can hang.
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
    /// The current shutdown stage has had its time.
    Stage,
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

    /// Whose timer it is; `None` for a shutdown stage's.
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
