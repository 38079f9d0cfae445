//! The stages of a shutdown in their order, each with its time limit. Pure, like [`super::up`].
//!
//! Nothing is started here. Every stage has a timer that ends it, even if nothing answers.

use std::time::Duration;

use super::event::{Action, Chore, Event, Target, Timer};
use super::facts::Facts;
use super::service::{SERVICES, Service};
use crate::shutdown::power::Power;

/// The time from SIGKILL to the next stage. Only a process stuck in the kernel needs longer.
pub const KILL_GRACE: Duration = Duration::from_secs(1);

/// The time that kubelet gets on top of the grace that it asked for, because it may use all of the
/// grace for its last pods and must answer after that.
pub const ANSWER: Duration = Duration::from_secs(2);

/// The time limit for everything after kubelet's grace. A test checks that the sum of the stages'
/// times is below it.
pub const SHUTDOWN: Duration = Duration::from_secs(30);

/// The stages of a shutdown, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Stage {
    /// Lets kubelet stop its pods, for the grace that it announced.
    Announce,
    /// Stops these processes within this time.
    Stop(Target, Duration),
    /// Has a helper do this within this time.
    Run(Chore, Duration),
    /// The shutdown is complete.
    Over,
}

/// The stages in their order, with their times. kubelet stops first, so that it does not restart
/// the containers that are stopped after it.
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

/// A node that is going down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Down {
    /// The final power state.
    pub power: Power,
    /// The index into [`STAGES`].
    stage: u8,
    /// True if SIGKILL was sent in this stage.
    killed: bool,
    /// True for the services that still have a process, by [`Service::index`].
    pub running: [bool; 2],
}

impl Down {
    /// Begins a shutdown. Later requests change nothing.
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

    /// Takes an event and returns the actions for it.
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

/// True if the event is the one that the stage waits for, or the stage's time is up.
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
