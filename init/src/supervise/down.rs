//! The way down: the steps of a shutdown, in order, each with its time. Pure, as [`super::step`].
//!
//! Nothing is started here, and every step ends by its own timer although nothing ever answers.

use std::time::Duration;

use super::step::Facts;
use super::{Action, Chore, Event, SERVICES, Service, Target, Timer};
use crate::shutdown::power::Power;

/// From SIGKILL to the next step; only a process stuck in the kernel takes longer.
pub const KILL_GRACE: Duration = Duration::from_secs(1);

/// What kubelet gets above the grace that it asked for: it may use all of it for its last pods, and
/// has to answer after that.
pub const ANSWER: Duration = Duration::from_secs(2);

/// From the end of kubelet's grace to the end of all. The sum of all steps' times is below it (a
/// test adds them up).
pub const SHUTDOWN: Duration = Duration::from_secs(30);

/// The steps of a shutdown, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Step {
    /// Let kubelet stop its pods, for the grace that it announced.
    Announce,
    /// End these processes within this time.
    Stop(Target, Duration),
    /// Have a helper do this within this time.
    Run(Chore, Duration),
    /// Nothing is left to do.
    Over,
}

/// Order and time of the steps. kubelet first, so that it does not start again what is stopped.
pub const STEPS: [Step; 9] = [
    Step::Announce,
    Step::Stop(Target::Service(Service::Kubelet), Duration::from_secs(2)),
    Step::Stop(Target::Pods, Duration::from_secs(5)),
    Step::Stop(Target::Service(Service::Containerd), Duration::from_secs(3)),
    Step::Stop(Target::Rest, Duration::from_secs(1)),
    Step::Run(Chore::Record, Duration::from_secs(2)),
    Step::Run(Chore::Unmount, Duration::from_secs(5)),
    Step::Run(Chore::Sync, Duration::from_secs(5)),
    Step::Over,
];

/// A node that goes down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Down {
    /// How it ends.
    pub power: Power,
    /// Index into [`STEPS`].
    step: u8,
    /// SIGKILL was sent in this step.
    killed: bool,
    /// Which services still have a process, by [`Service::index`].
    pub running: [bool; 2],
}

impl Down {
    /// Begins a shutdown; later requests change nothing.
    #[must_use]
    pub fn begin(power: Power, running: [bool; 2], facts: Facts) -> (Self, Vec<Action>) {
        let grace = if facts.inhibited { facts.grace } else { Duration::ZERO };
        let mut down = Self { power, step: 0, killed: false, running };
        let timers = SERVICES.into_iter().flat_map(Timer::of);
        let mut actions: Vec<_> = timers.map(Action::Disarm).collect();
        actions.push(Action::Deadline(power, grace + SHUTDOWN));
        if grace.is_zero() {
            actions.extend(down.next());
        } else {
            actions.extend([Action::Announce, Action::Arm(Timer::Step, grace + ANSWER)]);
        }
        (down, actions)
    }

    /// Takes one event and returns what to do.
    pub fn take(&mut self, event: Event) -> Vec<Action> {
        if let Event::Exited(service) = event {
            self.running[service.index()] = false;
        }
        match (self.now(), event) {
            (Step::Stop(target, _), Event::Due(Timer::Step)) if !self.killed => {
                self.killed = true;
                vec![Action::Kill(target), Action::Arm(Timer::Step, KILL_GRACE)]
            }
            (now, event) if ends(now, event) => self.next(),
            _ => Vec::new(),
        }
    }

    fn now(self) -> Step {
        STEPS[usize::from(self.step).min(STEPS.len() - 1)]
    }

    /// Enters the next step that has something to do.
    fn next(&mut self) -> Vec<Action> {
        self.step += 1;
        self.killed = false;
        match self.now() {
            Step::Stop(Target::Service(service), _) if !self.running[service.index()] => {
                self.next()
            }
            Step::Stop(target, time) => {
                vec![Action::Terminate(target), Action::Arm(Timer::Step, time)]
            }
            Step::Run(chore, time) => vec![Action::Run(chore), Action::Arm(Timer::Step, time)],
            Step::Announce => Vec::new(),
            Step::Over => vec![Action::Disarm(Timer::Step), Action::Finish(self.power)],
        }
    }
}

/// True when an event is what a step waits for, or its time is over.
fn ends(step: Step, event: Event) -> bool {
    match (step, event) {
        (Step::Over, _) => false,
        (_, Event::Due(Timer::Step))
        | (Step::Announce, Event::Released | Event::Exited(Service::Kubelet)) => true,
        (Step::Stop(Target::Service(target), _), Event::Exited(service)) => target == service,
        (Step::Stop(target, _), Event::Gone(gone)) => target == gone,
        (Step::Run(chore, _), Event::Finished(finished)) => chore == finished,
        _ => false,
    }
}
