//! The supervisor as a pure state machine.
//!
//! `docs/boot.md` names its invariants, and `tests.rs` checks each of them for all reachable
//! states: at most one process per service; kubelet starts only while containerd is ready; the
//! pause before a restart grows to a cap and falls back after a stable time; nothing starts during
//! a shutdown; every shutdown ends even if nothing answers.

use super::down::Down;
use super::event::{Action, Event, Report};
use super::facts::Facts;
use super::up::{Failures, ServiceState, Up};
use crate::shutdown::power::Power;

/// The whole supervisor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum State {
    /// The node is up and its services are kept running.
    Up(Up),
    /// The node is going down.
    Down(Down),
}

impl State {
    /// Returns the state before [`Event::Boot`].
    #[must_use]
    pub fn new(facts: Facts) -> Self {
        Self::Up(Up { services: [ServiceState::Waiting(Failures(0)); 2], facts })
    }

    /// Takes an event and returns the actions for it, in order. Events that have no meaning in the
    /// current state are ignored.
    pub fn take(&mut self, event: Event) -> Vec<Action> {
        let up = match self {
            Self::Up(up) => up,
            Self::Down(down) => return down.take(event),
        };
        let (report, power) = match event {
            Event::Shutdown(power) => (None, power),
            Event::Exited(service) if up.trial_fails(service) => {
                up.gone(service);
                (Some(Report::Trial(service)), Power::Reboot)
            }
            Event::Cure(service, true) if up.services[service.index()].failures().at_cap() => {
                (Some(Report::Cure(service)), Power::Reboot)
            }
            event => return up.take(event),
        };
        let (down, actions) = Down::begin(power, up.services.map(ServiceState::runs), up.facts);
        *self = Self::Down(down);
        report.map(Action::Say).into_iter().chain(actions).collect()
    }
}
