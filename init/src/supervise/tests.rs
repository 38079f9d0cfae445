//! A walk through all states that any order of events can reach, with the world as a model.

use std::collections::{BTreeSet, HashSet};
use std::time::Duration;

use super::down::{ANSWER, KILL_GRACE, SHUTDOWN, STEPS, Step};
use super::step::{Facts, PAUSES, STABLE, State, Unit, step};
use super::{Action, Chore, Event, SERVICES, Service, Target, Timer};
use crate::power::Power;

/// The grace of the walk; its length changes no decision.
const GRACE: Duration = Duration::from_mins(1);

/// What the world knows: which processes run, which timers run, which helper runs.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
struct World {
    running: [bool; 2],
    ready: [bool; 2],
    timers: BTreeSet<Timer>,
    stopping: Option<Target>,
    chore: Option<Chore>,
    inhibited: bool,
    recording: Option<Service>,
    down: Option<Power>,
    finished: bool,
}

impl World {
    /// All events that can come now.
    fn possible(&self) -> Vec<Event> {
        let mut events = vec![
            Event::Shutdown(Power::Off),
            Event::Shutdown(Power::Reboot),
            Event::Grace(GRACE),
            Event::Released,
        ];
        for service in SERVICES.into_iter().filter(|service| self.running[service.index()]) {
            events.extend([Event::Ready(service), Event::Exited(service)]);
            events.extend([Event::Fed(service), Event::Stopping(service)]);
            events.extend([true, false].map(|answered| Event::Probed(service, answered)));
        }
        if self.running[Service::Kubelet.index()] {
            events.push(Event::Inhibited);
        }
        events.extend(self.timers.iter().copied().map(Event::Due));
        events.extend(self.stopping.map(Event::Gone));
        events.extend(self.chore.map(Event::Finished));
        events.extend(self.recording.map(Event::Recorded));
        events
    }

    /// The event's own effect on the world.
    fn happen(&mut self, event: Event) {
        match event {
            Event::Ready(service) => self.ready[service.index()] = true,
            Event::Exited(service) => {
                self.running[service.index()] = false;
                self.ready[service.index()] = false;
                self.inhibited &= service != Service::Kubelet;
            }
            Event::Due(timer) => assert!(self.timers.remove(&timer)),
            Event::Finished(_) => self.chore = None,
            Event::Inhibited => self.inhibited = true,
            Event::Released => self.inhibited = false,
            Event::Recorded(_) => self.recording = None,
            _ => {}
        }
    }

    /// The action's effect, and the invariants that it must keep.
    fn act(&mut self, action: Action) {
        assert!(!self.finished, "{action:?} after the end");
        match action {
            Action::Start(service) => {
                assert!(!self.running[service.index()], "two processes of {service}");
                assert!(self.down.is_none(), "{service} started in shutdown");
                let needs = service == Service::Kubelet;
                assert!(!needs || self.ready[Service::Containerd.index()], "kubelet too early");
                self.running[service.index()] = true;
            }
            Action::Arm(timer, time) => {
                assert!(time > Duration::ZERO);
                self.timers.insert(timer);
            }
            Action::Disarm(timer) => drop(self.timers.remove(&timer)),
            Action::Terminate(target) => self.stopping = Some(target),
            Action::Kill(Target::Service(service)) => assert!(self.running[service.index()]),
            Action::Kill(target) => assert_eq!(self.stopping, Some(target)),
            Action::Run(chore) => (self.stopping, self.chore) = (None, Some(chore)),
            Action::Announce => assert!(self.inhibited && self.down.is_some()),
            Action::Record(service) => self.recording = Some(service),
            Action::Probe(service) | Action::Abort(service) => {
                assert!(self.running[service.index()] && self.down.is_none());
            }
            Action::Say(_) => {}
            Action::Deadline(power, time) => {
                assert_eq!(self.down, None);
                assert!(time == SHUTDOWN || self.inhibited && time == SHUTDOWN + GRACE);
                self.down = Some(power);
            }
            Action::Finish(power) => {
                assert_eq!(self.down, Some(power), "another end than the one asked for first");
                self.finished = true;
            }
        }
    }

    fn take(&mut self, state: &mut State, event: Event) -> Vec<Action> {
        self.happen(event);
        let actions = step(state, event);
        for action in &actions {
            self.act(*action);
        }
        actions
    }
}

fn booted(facts: Facts) -> (State, World) {
    let (mut state, mut world) = (State::new(facts), World::default());
    world.take(&mut state, Event::Boot);
    (state, world)
}
fn walk(mut visit: impl FnMut(&State, &World)) -> usize {
    let mut seen = HashSet::new();
    let mut open = vec![booted(Facts::default())];
    while let Some((state, world)) = open.pop() {
        if !seen.insert((state, world.clone())) {
            continue;
        }
        visit(&state, &world);
        for event in world.possible().into_iter().filter(|_| !world.finished) {
            let (mut state, mut world) = (state, world.clone());
            world.take(&mut state, event);
            open.push((state, world));
        }
    }
    seen.len()
}

#[test]
fn no_order_of_events_breaks_an_invariant() {
    let states = walk(|state, world| match state {
        State::Up(up) => {
            for service in SERVICES {
                let unit = up.units[service.index()];
                assert_eq!(unit.runs(), world.running[service.index()], "{unit:?}");
                let pausing = matches!(unit, Unit::Pausing(_));
                assert_eq!(pausing, world.timers.contains(&Timer::Restart(service)));
            }
        }
        State::Down(down) => {
            assert_eq!(down.running, world.running);
            assert!(world.finished || world.timers.contains(&Timer::Step), "stuck in {state:?}");
        }
    });
    assert!(states > 500, "only {states} states: the walk does not walk");
}

#[test]
fn while_up_some_process_runs_or_some_timer_does() {
    walk(|state, world| {
        if let State::Up(_) = state {
            assert!(
                world.running[0] || world.timers.contains(&Timer::Restart(Service::Containerd))
            );
        }
    });
}

#[test]
fn from_every_state_a_shutdown_ends_although_nothing_answers() {
    walk(|state, world| {
        let (mut state, mut world) = (*state, world.clone());
        if !world.finished {
            world.take(&mut state, Event::Shutdown(Power::Off));
        }
        for _ in 0..3 * STEPS.len() {
            if !world.finished {
                world.take(&mut state, Event::Due(Timer::Step));
            }
        }
        assert!(world.finished);
    });
}

#[test]
fn all_steps_fit_into_the_deadline() {
    let times = STEPS.iter().map(|step| match step {
        Step::Stop(_, time) => *time + KILL_GRACE,
        Step::Run(_, time) => *time,
        Step::Announce => ANSWER,
        Step::Over => Duration::ZERO,
    });
    assert!(times.sum::<Duration>() < SHUTDOWN);
}

/// Lets containerd fail `count` times and returns the pauses.
fn pauses(state: &mut State, count: usize) -> Vec<Duration> {
    let service = Service::Containerd;
    let mut pauses = Vec::new();
    for _ in 0..count {
        for action in step(state, Event::Exited(service)) {
            if let Action::Arm(Timer::Restart(_), pause) = action {
                pauses.push(pause);
            }
        }
        step(state, Event::Due(Timer::Restart(service)));
    }
    pauses
}

#[test]
fn pauses_grow_to_a_cap_and_fall_back_after_a_stable_time() {
    let (mut state, _) = booted(Facts::default());
    let mut expected = PAUSES.to_vec();
    expected.extend([PAUSES[6]; 3]);
    assert_eq!(pauses(&mut state, 10), expected);

    let armed = step(&mut state, Event::Ready(Service::Containerd));
    assert!(armed.contains(&Action::Arm(Timer::Stable(Service::Containerd), STABLE)));
    step(&mut state, Event::Due(Timer::Stable(Service::Containerd)));
    assert_eq!(pauses(&mut state, 1), [PAUSES[0]]);
}

#[test]
fn being_ready_for_a_moment_does_not_shorten_the_pause() {
    let (mut state, _) = booted(Facts::default());
    assert_eq!(pauses(&mut state, 3), PAUSES[..3]);
    step(&mut state, Event::Ready(Service::Containerd));
    assert_eq!(pauses(&mut state, 1), [PAUSES[3]]);
}

#[test]
fn kubelet_keeps_running_while_containerd_restarts() {
    let (mut state, _) = booted(Facts::default());
    let actions = step(&mut state, Event::Ready(Service::Containerd));
    assert_eq!(actions.last(), Some(&Action::Start(Service::Kubelet)));
    let actions = step(&mut state, Event::Exited(Service::Containerd));
    assert!(actions.iter().all(|action| !matches!(action, Action::Terminate(_) | Action::Kill(_))));
    let State::Up(up) = state else { panic!("not up") };
    assert!(matches!(up.units[1], Unit::Starting(_)));
}

#[test]
fn a_shutdown_goes_through_its_steps_in_order() {
    let (mut state, mut world) = booted(Facts::default());
    world.take(&mut state, Event::Ready(Service::Containerd));
    let mut order = Vec::new();
    let mut event = Event::Shutdown(Power::Reboot);
    while !world.finished {
        world.happen(event);
        for action in step(&mut state, event) {
            world.act(action);
            match action {
                Action::Terminate(target @ Target::Service(service)) => {
                    event = Event::Exited(service);
                    order.push(format!("{target:?}"));
                }
                Action::Terminate(target) => {
                    event = Event::Gone(target);
                    order.push(format!("{target:?}"));
                }
                Action::Run(chore) => {
                    event = Event::Finished(chore);
                    order.push(format!("{chore:?}"));
                }
                _ => {}
            }
        }
    }
    let expected =
        ["Service(Kubelet)", "Pods", "Service(Containerd)", "Rest", "Record", "Unmount", "Sync"];
    assert_eq!(order, expected);
}
