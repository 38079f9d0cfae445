//! The supervisor's decisions while the node is up: no clock, no I/O, every state valid by its type.

use std::time::Duration;

use super::event::{Action, Event, Report, Target, Timer};
use super::facts::Facts;
use super::hooks;
use super::service::{SERVICES, Service};

/// Pauses before a restart: the first soon, because a killed containerd stops no container, the
/// last for ever, because a node that gives up needs a visit.
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

/// Failures in a row after which a trial boot gives up: 15 s of pauses, so that a service which
/// only waits for a slow device has had its chance.
pub const TRIAL_FAILURES: u8 = 5;

/// A service that has run this long starts anew with the shortest pause.
///
/// containerd's time counts from READY. kubelet's counts from its start: one that waits for an API
/// server or a certificate and then exits, after minutes, has not failed.
pub const STABLE: Duration = Duration::from_mins(1);

/// How long containerd may take to say READY. It reads its database and imports the baked images,
/// which takes seconds; a data disk may stall for 60 s, and check its journal before.
pub const START: Duration = Duration::from_mins(5);

/// kubelet's watchdog (`WATCHDOG_USEC`); it feeds at half of this. Twice the time that a data disk
/// may stall.
pub const WATCHDOG: Duration = Duration::from_mins(2);

/// Between two probes of containerd, and how long each may take.
pub const PROBE: Duration = Duration::from_secs(30);

/// Probes in a row without an answer after which containerd counts as hung: 90 s. A disk that
/// stalls for 60 s can stop all of a Go program, which maps its database into memory: a page fault
/// is no system call, and the garbage collector waits for the thread that has it.
pub const PROBES_MISSED: u8 = 3;

/// From SIGABRT (or STOPPING) to SIGKILL: time to write what thousands of goroutines do.
pub const ABORT_GRACE: Duration = Duration::from_secs(10);

/// How often a service failed in a row; an index into [`PAUSES`] until it reaches their number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Failures(pub(super) u8);

impl Failures {
    fn pause(self) -> Duration {
        hooks::PAUSE.unwrap_or(PAUSES[usize::from(self.0).min(PAUSES.len() - 1)])
    }

    fn next(self) -> Self {
        Self(self.0.saturating_add(1).min(CAP))
    }

    /// True when the longest pause was reached.
    #[must_use]
    pub const fn at_cap(self) -> bool {
        self.0 >= CAP
    }
}

/// How the probes of a ready service go. kubelet feeds a watchdog instead, and has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Probes {
    /// Probes in a row without an answer, below [`PROBES_MISSED`].
    missed: u8,
    /// One is on its way.
    open: bool,
}

/// One service while the node is up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ServiceState {
    /// No process: waits until what it needs is ready.
    Waiting(Failures),
    /// Its process runs and has not said that it is ready. No limit: kubelet may bootstrap.
    Starting(Failures),
    /// Its process runs and is ready.
    Ready(Failures, Probes),
    /// Its process runs and is about to end: it hung, or said so itself.
    Ending(Failures),
    /// No process: the pause before the next start.
    Pausing(Failures),
}

impl ServiceState {
    /// True while there is a process.
    #[must_use]
    pub const fn runs(self) -> bool {
        matches!(self, Self::Starting(_) | Self::Ready(..) | Self::Ending(_))
    }

    /// How often it failed in a row.
    #[must_use]
    pub const fn failures(self) -> Failures {
        match self {
            Self::Waiting(failures)
            | Self::Starting(failures)
            | Self::Ready(failures, _)
            | Self::Ending(failures)
            | Self::Pausing(failures) => failures,
        }
    }
}

/// A node that is up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Up {
    /// By [`Service::index`].
    pub services: [ServiceState; 2],
    /// What it knows.
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

    /// True when a service that ends now has failed too often for a boot on trial.
    pub(super) fn trial_fails(&self, service: Service) -> bool {
        let state = self.services[service.index()];
        self.facts.trial && state.runs() && state.failures().next().0 >= TRIAL_FAILURES
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

    /// Gives kubelet its watchdog's whole time again, if its watchdog counts.
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
            (Timer::Kill(service), Some(ServiceState::Ending(_))) => {
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

    /// The next probe; the last one has had its time.
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

    /// A service has not fed its watchdog. kubelet stops feeding when containerd does not answer,
    /// so while containerd is under suspicion kubelet is not.
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

    /// A running service is about to end, if need be by SIGKILL.
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
        actions.push(Action::Arm(Timer::Restart(service), before.pause()));
        actions.extend(self.wind_up());
        if after.at_cap() && !before.at_cap() {
            actions.extend(self.at_cap(service));
        }
        actions
    }

    /// A service has no process any more, and what it wanted is void.
    pub(super) fn gone(&mut self, service: Service) {
        *self.service(service) = ServiceState::Pausing(self.service(service).failures().next());
        self.facts.inhibited &= service != Service::Kubelet;
    }

    /// The reboot follows when it is written down: one that is not counted could come for ever.
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
