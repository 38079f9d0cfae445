//! The supervisor's decisions while the node is up. It has no clock and no I/O, and every state is
//! valid by its type.

use std::time::Duration;

use super::event::{Action, Event, Report, Target, Timer};
use super::facts::Facts;
use super::hooks;
use super::service::{SERVICES, Service};

/// The pauses before a restart. The first is short, because a killed containerd stops no container.
/// The last is repeated forever, because a node that gives up needs a visit.
pub const PAUSES: [Duration; 7] = [
    Duration::from_millis(250),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
    Duration::from_secs(8),
    Duration::from_secs(16),
    Duration::from_secs(30),
];

#[allow(clippy::cast_possible_truncation, reason = "a handful of pauses")]
const CAP: u8 = PAUSES.len() as u8;

/// The number of failures in a row after which a trial boot gives up. Their pauses take 15 s,
/// enough for a service that only waits for a slow device.
pub const TRIAL_FAILURES: u8 = 5;

/// The time after which a running service is stable and its next pause is the shortest again.
///
/// containerd's time counts from READY, kubelet's from its start: a kubelet that waits minutes for
/// an API server or a certificate and then exits has not failed.
pub const STABLE: Duration = Duration::from_mins(1);

/// The time limit for containerd's READY. It reads its database and imports the baked images, which
/// takes seconds, but before that a data disk may stall for 60 s and replay its journal.
pub const START: Duration = Duration::from_mins(5);

/// kubelet's watchdog (`WATCHDOG_USEC`), twice the time that a data disk may stall. kubelet feeds
/// it at half of this time.
pub const WATCHDOG: Duration = Duration::from_mins(2);

/// The interval of containerd's probes, and the time limit for each.
pub const PROBE: Duration = Duration::from_secs(30);

/// The number of missed probes in a row, 90 s, after which containerd counts as hung. A disk that
/// stalls for 60 s can stop a whole Go program that maps its database into memory: a page fault is
/// not a system call, so the garbage collector waits for the thread.
pub const PROBES_MISSED: u8 = 3;

/// The time from SIGABRT (or STOPPING) to SIGKILL, enough to log the stacks of thousands of
/// goroutines.
pub const ABORT_GRACE: Duration = Duration::from_secs(10);

/// The number of failures in a row. It is an index into [`PAUSES`] until it reaches their number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Failures(pub(super) u8);

impl Failures {
    fn pause(self) -> Duration {
        hooks::PAUSE.unwrap_or(PAUSES[usize::from(self.0).min(PAUSES.len() - 1)])
    }

    fn next(self) -> Self {
        Self(self.0.saturating_add(1).min(CAP))
    }

    /// True if the longest pause is reached.
    #[must_use]
    pub const fn at_cap(self) -> bool {
        self.0 >= CAP
    }
}

/// The state of a ready service's probes. kubelet has none, because it feeds a watchdog.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Probes {
    /// Missed probes in a row, below [`PROBES_MISSED`].
    missed: u8,
    /// True while a probe waits for its answer.
    open: bool,
}

/// The state of one service while the node is up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ServiceState {
    /// No process: the service waits until the services that it needs are ready.
    Waiting(Failures),
    /// The service runs and is not ready. kubelet has no time limit, because it may bootstrap.
    Starting(Failures),
    /// The service runs and is ready.
    Ready(Failures, Probes),
    /// The service runs and is about to exit, because it hung or announced its exit.
    Ending(Failures),
    /// The service runs and was told to exit, because its command has changed. Its exit is not a
    /// failure.
    Renewing(Failures),
    /// No process: the service waits for its next start.
    Pausing(Failures),
}

impl ServiceState {
    /// True while there is a process.
    #[must_use]
    pub const fn runs(self) -> bool {
        matches!(self, Self::Starting(_) | Self::Ready(..) | Self::Ending(_) | Self::Renewing(_))
    }

    /// Returns the number of failures in a row.
    #[must_use]
    pub const fn failures(self) -> Failures {
        match self {
            Self::Waiting(failures)
            | Self::Starting(failures)
            | Self::Ready(failures, _)
            | Self::Ending(failures)
            | Self::Renewing(failures)
            | Self::Pausing(failures) => failures,
        }
    }
}

/// A node that is up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Up {
    /// The services, by [`Service::index`].
    pub services: [ServiceState; 2],
    /// The facts.
    pub facts: Facts,
}

impl Up {
    pub(super) fn take(&mut self, event: Event) -> Vec<Action> {
        match event {
            Event::Boot => return self.start_what_can(),
            Event::Ready(service) => return self.ready(service),
            Event::Fed(service) => return self.fed(service),
            Event::Stopping(service) => return self.stopping(service),
            Event::Probed(service, answered) => return self.probed(service, answered),
            Event::Exited(service) => return self.exited(service),
            Event::Renewed(service) => return self.renew(service),
            Event::Due(timer) => return self.due(timer),
            Event::Grace(grace) => self.facts.grace = grace,
            Event::Inhibited => self.facts.inhibited = true,
            Event::Released => self.facts.inhibited = false,
            Event::Cure(..) => self.facts.cures = true,
            Event::Shutdown(_) | Event::Gone(_) | Event::Finished(_) => {}
        }
        Vec::new()
    }

    fn service(&mut self, service: Service) -> &mut ServiceState {
        &mut self.services[service.index()]
    }

    /// True if the end of this service now is one failure too many for a trial boot.
    pub(super) fn trial_fails(&self, service: Service) -> bool {
        let state = self.services[service.index()];
        let fails = state.runs() && !matches!(state, ServiceState::Renewing(_));
        self.facts.trial && fails && state.failures().next().0 >= TRIAL_FAILURES
    }

    fn ready(&mut self, service: Service) -> Vec<Action> {
        let ServiceState::Starting(failures) = *self.service(service) else { return Vec::new() };
        *self.service(service) = ServiceState::Ready(failures, Probes::default());
        let mut actions = vec![Action::Disarm(Timer::Start(service))];
        if service == Service::Containerd {
            actions.push(Action::Arm(Timer::Stable(service), STABLE));
            actions.push(Action::Arm(Timer::Probe(service), PROBE));
        }
        actions.extend(self.wind_up());
        actions.extend(self.start_what_can());
        actions
    }

    /// Restarts kubelet's watchdog timer if kubelet is ready.
    fn wind_up(&self) -> Option<Action> {
        let kubelet = Service::Kubelet;
        matches!(self.services[kubelet.index()], ServiceState::Ready(..))
            .then_some(Action::Arm(Timer::Watchdog(kubelet), WATCHDOG))
    }

    fn fed(&self, service: Service) -> Vec<Action> {
        self.wind_up().filter(|_| service == Service::Kubelet).into_iter().collect()
    }

    fn probed(&mut self, service: Service, answered: bool) -> Vec<Action> {
        let ServiceState::Ready(failures, probes @ Probes { open: true, .. }) =
            *self.service(service)
        else {
            return Vec::new();
        };
        if answered {
            *self.service(service) = ServiceState::Ready(failures, Probes::default());
            return Vec::new();
        }
        self.missed(service, failures, probes)
    }

    fn missed(&mut self, service: Service, failures: Failures, probes: Probes) -> Vec<Action> {
        let missed = probes.missed + 1;
        if missed >= PROBES_MISSED {
            return self.hung(service);
        }
        *self.service(service) = ServiceState::Ready(failures, Probes { missed, open: false });
        Vec::new()
    }

    fn due(&mut self, timer: Timer) -> Vec<Action> {
        match (timer, timer.service().map(|service| *self.service(service))) {
            (Timer::Restart(service), Some(ServiceState::Pausing(failures))) => {
                *self.service(service) = ServiceState::Waiting(failures);
                self.start_what_can()
            }
            (Timer::Stable(service), Some(state)) => self.stable(service, state),
            (Timer::Start(service), Some(ServiceState::Starting(_))) => self.hung(service),
            (Timer::Watchdog(service), Some(ServiceState::Ready(..))) => self.starved(service),
            (Timer::Probe(service), Some(ServiceState::Ready(failures, probes))) => {
                self.probe(service, failures, probes)
            }
            (Timer::Kill(service), Some(ServiceState::Ending(_) | ServiceState::Renewing(_))) => {
                vec![Action::Kill(Target::Service(service))]
            }
            _ => Vec::new(),
        }
    }

    fn stable(&mut self, service: Service, state: ServiceState) -> Vec<Action> {
        match state {
            ServiceState::Starting(_) => {
                *self.service(service) = ServiceState::Starting(Failures(0));
            }
            ServiceState::Ready(_, probes) => {
                *self.service(service) = ServiceState::Ready(Failures(0), probes);
                self.facts.trial &= service != Service::Kubelet;
            }
            _ => {}
        }
        Vec::new()
    }

    /// Sends the next probe and counts the last one as missed if it has no answer.
    fn probe(&mut self, service: Service, failures: Failures, probes: Probes) -> Vec<Action> {
        let mut actions = Vec::new();
        if probes.open {
            actions = self.missed(service, failures, probes);
        }
        if let ServiceState::Ready(failures, probes) = *self.service(service) {
            *self.service(service) = ServiceState::Ready(failures, Probes { open: true, ..probes });
            actions.extend([Action::Probe(service), Action::Arm(Timer::Probe(service), PROBE)]);
        }
        actions
    }

    /// Handles a watchdog that was not fed. kubelet stops feeding if containerd does not
    /// answer, so kubelet is spared while containerd misses probes.
    fn starved(&mut self, service: Service) -> Vec<Action> {
        let containerd = self.services[Service::Containerd.index()];
        if matches!(containerd, ServiceState::Ready(_, Probes { missed: 0, .. })) {
            return self.hung(service);
        }
        vec![Action::Arm(Timer::Watchdog(service), WATCHDOG)]
    }

    fn hung(&mut self, service: Service) -> Vec<Action> {
        let mut actions = self.end(service);
        actions.extend([Action::Say(Report::Hung(service)), Action::Abort(service)]);
        actions
    }

    fn stopping(&mut self, service: Service) -> Vec<Action> {
        match *self.service(service) {
            ServiceState::Starting(_) | ServiceState::Ready(..) => self.end(service),
            _ => Vec::new(),
        }
    }

    /// Has a running service exit, so that it starts again with its new command. A service that is
    /// about to exit, or has no process, gets the new command at its next start anyway.
    fn renew(&mut self, service: Service) -> Vec<Action> {
        let state = *self.service(service);
        if !matches!(state, ServiceState::Starting(_) | ServiceState::Ready(..)) {
            return Vec::new();
        }
        let mut actions = self.end(service);
        *self.service(service) = ServiceState::Renewing(state.failures());
        actions.push(Action::Renew(service));
        actions
    }

    /// Waits for a running service to exit, and kills it if necessary.
    fn end(&mut self, service: Service) -> Vec<Action> {
        *self.service(service) = ServiceState::Ending(self.service(service).failures());
        let mut actions: Vec<_> = Timer::of(service).map(Action::Disarm).into();
        actions.push(Action::Arm(Timer::Kill(service), ABORT_GRACE));
        actions.extend(self.wind_up());
        actions
    }

    fn exited(&mut self, service: Service) -> Vec<Action> {
        let state = *self.service(service);
        if !state.runs() {
            return Vec::new();
        }
        let (before, after) = (state.failures(), state.failures().next());
        self.gone(service);
        let mut actions: Vec<_> = Timer::of(service).map(Action::Disarm).into();
        if matches!(state, ServiceState::Renewing(_)) {
            *self.service(service) = ServiceState::Waiting(before);
            actions.extend(self.wind_up());
            actions.extend(self.start_what_can());
            return actions;
        }
        actions.push(Action::Arm(Timer::Restart(service), before.pause()));
        actions.extend(self.wind_up());
        if after.at_cap() && !before.at_cap() {
            actions.extend(self.at_cap(service));
        }
        actions
    }

    /// Records that a service has no process, which voids its inhibitor.
    pub(super) fn gone(&mut self, service: Service) {
        *self.service(service) = ServiceState::Pausing(self.service(service).failures().next());
        self.facts.inhibited &= service != Service::Kubelet;
    }

    /// Reports the cap and requests a reboot if one is allowed. The reboot follows once it is
    /// recorded, because uncounted reboots could follow each other forever.
    fn at_cap(&mut self, service: Service) -> Vec<Action> {
        let mut actions = vec![Action::Say(Report::AtCap(service))];
        if self.facts.cures {
            self.facts.cures = false;
            actions.push(Action::Record(service));
        }
        actions
    }

    /// Starts every waiting service whose needs are met.
    fn start_what_can(&mut self) -> Vec<Action> {
        let mut actions = Vec::new();
        for service in SERVICES {
            let met = match service {
                Service::Containerd => true,
                Service::Kubelet => {
                    matches!(self.services[Service::Containerd.index()], ServiceState::Ready(..))
                }
            };
            if let (true, ServiceState::Waiting(failures)) = (met, *self.service(service)) {
                *self.service(service) = ServiceState::Starting(failures);
                let (timer, time) = match service {
                    Service::Containerd => (Timer::Start(service), START),
                    Service::Kubelet => (Timer::Stable(service), STABLE),
                };
                actions.extend([Action::Arm(timer, time), Action::Start(service)]);
            }
        }
        actions
    }
}
