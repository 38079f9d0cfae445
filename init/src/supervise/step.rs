//! The supervisor's decisions: no clock, no I/O, every state valid by its type.
//!
//! Invariants, each checked for all reachable states in `tests.rs`:
//! at most one process per service; kubelet is started only while containerd is ready; the pause
//! before a restart grows to a cap and falls back after a stable time; in shutdown nothing is
//! started; every shutdown comes to its end although nothing ever answers.

use std::time::Duration;

use super::{Action, Chore, Event, SERVICES, Service, Target, Timer};
use crate::power::Power;

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
const LAST: u8 = PAUSES.len() as u8 - 1;

/// A service that has been ready this long starts anew with the shortest pause.
pub const STABLE: Duration = Duration::from_mins(1);

/// From SIGKILL to the next step; only a process stuck in the kernel takes longer.
pub const KILL_GRACE: Duration = Duration::from_secs(1);

/// From the request to the end. The sum of all steps' times is below it (a test adds them up).
pub const SHUTDOWN: Duration = Duration::from_secs(30);

/// How often a service failed since it was last stable; an index into [`PAUSES`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Failures(u8);

impl Failures {
    fn pause(self) -> Duration {
        PAUSES[usize::from(self.0).min(PAUSES.len() - 1)]
    }

    fn next(self) -> Self {
        Self(self.0.saturating_add(1).min(LAST))
    }
}

/// One service while the node is up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Unit {
    /// No process: waits until what it needs is ready.
    Waiting(Failures),
    /// Its process runs and has not said that it is ready. No limit: kubelet may bootstrap.
    Starting(Failures),
    /// Its process runs and is ready.
    Ready(Failures),
    /// No process: the pause before the next start.
    Pausing(Failures),
}

impl Unit {
    const fn runs(self) -> bool {
        matches!(self, Self::Starting(_) | Self::Ready(_))
    }
}

/// The steps of a shutdown, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Step {
    /// End these processes.
    Stop(Target),
    /// Have a helper do this.
    Run(Chore),
    /// Nothing is left to do.
    Over,
}

/// Order and time of the steps. kubelet first, so that it does not start again what is stopped.
pub const STEPS: [(Step, Duration); 7] = [
    (Step::Stop(Target::Service(Service::Kubelet)), Duration::from_secs(2)),
    (Step::Stop(Target::Pods), Duration::from_secs(8)),
    (Step::Stop(Target::Service(Service::Containerd)), Duration::from_secs(3)),
    (Step::Stop(Target::Rest), Duration::from_secs(1)),
    (Step::Run(Chore::Unmount), Duration::from_secs(5)),
    (Step::Run(Chore::Sync), Duration::from_secs(5)),
    (Step::Over, Duration::ZERO),
];

/// The whole supervisor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum State {
    /// Services are kept running, by [`Service::index`].
    Up([Unit; 2]),
    /// The node goes down.
    Down {
        /// How it ends.
        power: Power,
        /// Index into [`STEPS`].
        step: u8,
        /// SIGKILL was sent in this step.
        killed: bool,
        /// Which services still have a process, by [`Service::index`].
        running: [bool; 2],
    },
}

impl Default for State {
    fn default() -> Self {
        Self::Up([Unit::Waiting(Failures(0)); 2])
    }
}

/// Takes one event and returns what to do, in order. Events that mean nothing now do nothing.
pub fn step(state: &mut State, event: Event) -> Vec<Action> {
    match (*state, event) {
        (State::Up(units), Event::Shutdown(power)) => begin_shutdown(state, units, power),
        (State::Up(mut units), event) => {
            let actions = keep_up(&mut units, event);
            *state = State::Up(units);
            actions
        }
        (State::Down { .. }, event) => go_down(state, event),
    }
}

fn keep_up(units: &mut [Unit; 2], event: Event) -> Vec<Action> {
    match event {
        Event::Boot => start_what_can(units),
        Event::Ready(service) => ready(units, service),
        Event::Exited(service) => exited(&mut units[service.index()], service),
        Event::Due(Timer::Restart(service)) => pause_over(units, service),
        Event::Due(Timer::Stable(service)) => stable(&mut units[service.index()]),
        Event::Due(Timer::Step) | Event::Gone(_) | Event::Finished(_) | Event::Shutdown(_) => {
            Vec::new()
        }
    }
}

fn ready(units: &mut [Unit; 2], service: Service) -> Vec<Action> {
    let Unit::Starting(failures) = units[service.index()] else { return Vec::new() };
    units[service.index()] = Unit::Ready(failures);
    let mut actions = vec![Action::Arm(Timer::Stable(service), STABLE)];
    actions.extend(start_what_can(units));
    actions
}

fn exited(unit: &mut Unit, service: Service) -> Vec<Action> {
    let (Unit::Starting(failures) | Unit::Ready(failures)) = *unit else { return Vec::new() };
    *unit = Unit::Pausing(failures.next());
    vec![
        Action::Disarm(Timer::Stable(service)),
        Action::Arm(Timer::Restart(service), failures.pause()),
    ]
}

fn pause_over(units: &mut [Unit; 2], service: Service) -> Vec<Action> {
    let Unit::Pausing(failures) = units[service.index()] else { return Vec::new() };
    units[service.index()] = Unit::Waiting(failures);
    start_what_can(units)
}

fn stable(unit: &mut Unit) -> Vec<Action> {
    if let Unit::Ready(_) = unit {
        *unit = Unit::Ready(Failures(0));
    }
    Vec::new()
}

/// Starts every waiting service whose needs are met.
fn start_what_can(units: &mut [Unit; 2]) -> Vec<Action> {
    let mut actions = Vec::new();
    for service in SERVICES {
        let met = match service {
            Service::Containerd => true,
            Service::Kubelet => matches!(units[Service::Containerd.index()], Unit::Ready(_)),
        };
        if let (true, Unit::Waiting(failures)) = (met, units[service.index()]) {
            units[service.index()] = Unit::Starting(failures);
            actions.push(Action::Start(service));
        }
    }
    actions
}

fn begin_shutdown(state: &mut State, units: [Unit; 2], power: Power) -> Vec<Action> {
    let running = units.map(Unit::runs);
    *state = State::Down { power, step: 0, killed: false, running };
    let timers = SERVICES.map(|service| [Timer::Restart(service), Timer::Stable(service)]);
    let mut actions: Vec<_> = timers.into_iter().flatten().map(Action::Disarm).collect();
    actions.push(Action::Deadline(power, SHUTDOWN));
    actions.extend(enter(state));
    actions
}

fn go_down(state: &mut State, event: Event) -> Vec<Action> {
    let State::Down { step, killed, running, .. } = state else { return Vec::new() };
    if let Event::Exited(service) = event {
        running[service.index()] = false;
    }
    let (now, _) = at(*step);
    let done = match (now, event) {
        (Step::Stop(Target::Service(target)), Event::Exited(service)) => target == service,
        (Step::Stop(target), Event::Gone(gone)) => target == gone,
        (Step::Run(chore), Event::Finished(finished)) => chore == finished,
        (Step::Run(_), Event::Due(Timer::Step)) => true,
        (Step::Stop(_), Event::Due(Timer::Step)) if *killed => true,
        (Step::Stop(target), Event::Due(Timer::Step)) => {
            *killed = true;
            return vec![Action::Kill(target), Action::Arm(Timer::Step, KILL_GRACE)];
        }
        _ => false,
    };
    if !done {
        return Vec::new();
    }
    *step += 1;
    *killed = false;
    enter(state)
}

/// Enters the current step, or the first after it that has something to do.
fn enter(state: &mut State) -> Vec<Action> {
    let State::Down { power, step, running, .. } = state else { return Vec::new() };
    if let (Step::Stop(Target::Service(service)), _) = at(*step)
        && !running[service.index()]
    {
        *step += 1;
        return enter(state);
    }
    match at(*step) {
        (Step::Stop(target), time) => {
            vec![Action::Terminate(target), Action::Arm(Timer::Step, time)]
        }
        (Step::Run(chore), time) => vec![Action::Run(chore), Action::Arm(Timer::Step, time)],
        (Step::Over, _) => vec![Action::Disarm(Timer::Step), Action::Finish(*power)],
    }
}

fn at(step: u8) -> (Step, Duration) {
    STEPS[usize::from(step).min(STEPS.len() - 1)]
}
