//! The way down: the stages of a shutdown, in order, each with its time. Pure, as [`super::up`].
//!
//! Nothing is started here, and every stage ends by its own timer although nothing ever answers.

use std::time::Duration;

use super::event::{Action, Chore, Event, Target, Timer};
use super::facts::Facts;
use super::service::{SERVICES, Service};
use crate::shutdown::power::Power;

/// From SIGKILL to the next stage; only a process stuck in the kernel takes longer.
pub const KILL_GRACE: Duration = Duration::from_secs(1);

/// What kubelet gets above the grace that it asked for: it may use all of it for its last pods, and
/// has to answer after that.
pub const ANSWER: Duration = Duration::from_secs(2);

/// From the end of kubelet's grace to the end of all. The sum of all stages' times is below it (a
/// test adds them up).
pub const SHUTDOWN: Duration = Duration::from_secs(30);

/// The stages of a shutdown, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Stage {
    /// Let kubelet stop its pods, for the grace that it announced.
    Announce,
    /// End these processes within this time.
    Stop(Target, Duration),
    /// Have a helper do this within this time.
    Run(Chore, Duration),
    /// Nothing is left to do.
    Over,
}

/// Order and time of the stages. kubelet first, so that it does not start again what is stopped.
pub const STAGES: [Stage; 9] = [
    Stage::Announce,
    Stage::Stop(Target::Service(Service::Kubelet), Duration::from_secs(2)),
    Stage::Stop(Target::Pods, Duration::from_secs(5)),
    Stage::Stop(Target::Service(Service::Containerd), Duration::from_secs(3)),
    Stage::Stop(Target::Rest, Duration::from_secs(1)),
    Stage::Run(Chore::Record, Duration::from_secs(2)),
    Stage::Run(Chore::Unmount, Duration::from_secs(5)),
    Stage::Run(Chore::Sync, Duration::from_secs(5)),
    Stage::Over,
];

/// A node that goes down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Down {
    /// How it ends.
    pub power: Power,
    /// Index into [`STAGES`].
    stage: u8,
    /// SIGKILL was sent in this stage.
    killed: bool,
    /// Which services still have a process, by [`Service::index`].
    pub running: [bool; 2],
}

impl Down {
    /// Begins a shutdown; later requests change nothing.
    #[must_use]
    pub fn begin(power: Power, running: [bool; 2], facts: Facts) -> (Self, Vec<Action>) {
        let grace = if facts.inhibited { facts.grace } else { Duration::ZERO };
        let mut down = Self { power, stage: 0, killed: false, running };
        let timers = SERVICES.into_iter().flat_map(Timer::of);
        let mut actions: Vec<_> = timers.map(Action::Disarm).collect();
        actions.push(Action::Deadline(power, grace + SHUTDOWN));
        if grace.is_zero() {
            actions.extend(down.next());
        } else {
            actions.extend([Action::Announce, Action::Arm(Timer::Stage, grace + ANSWER)]);
        }
        (down, actions)
    }

    /// Takes one event and returns what to do.
    pub fn take(&mut self, event: Event) -> Vec<Action> {
        if let Event::Exited(service) = event {
            self.running[service.index()] = false;
        }
        match (self.now(), event) {
            (Stage::Stop(target, _), Event::Due(Timer::Stage)) if !self.killed => {
                self.killed = true;
                vec![Action::Kill(target), Action::Arm(Timer::Stage, KILL_GRACE)]
            }
            (now, event) if ends(now, event) => self.next(),
            _ => Vec::new(),
        }
    }

    fn now(self) -> Stage {
        STAGES[usize::from(self.stage).min(STAGES.len() - 1)]
    }

    /// Enters the next stage that has something to do.
    fn next(&mut self) -> Vec<Action> {
        self.stage += 1;
        self.killed = false;
        match self.now() {
            Stage::Stop(Target::Service(service), _) if !self.running[service.index()] => {
                self.next()
            }
            Stage::Stop(target, time) => {
                vec![Action::Terminate(target), Action::Arm(Timer::Stage, time)]
            }
            Stage::Run(chore, time) => vec![Action::Run(chore), Action::Arm(Timer::Stage, time)],
            Stage::Announce => Vec::new(),
            Stage::Over => vec![Action::Disarm(Timer::Stage), Action::Finish(self.power)],
        }
    }
}

/// True when an event is what a stage waits for, or its time is over.
fn ends(stage: Stage, event: Event) -> bool {
    match (stage, event) {
        (Stage::Over, _) => false,
        (_, Event::Due(Timer::Stage))
        | (Stage::Announce, Event::Released | Event::Exited(Service::Kubelet)) => true,
        (Stage::Stop(Target::Service(target), _), Event::Exited(service)) => target == service,
        (Stage::Stop(target, _), Event::Gone(gone)) => target == gone,
        (Stage::Run(chore, _), Event::Finished(finished)) => chore == finished,
        _ => false,
    }
}
