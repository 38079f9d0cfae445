//! A model of the world for the walk: processes, promises, and the invariants that every action
//! must keep. It counts independently of the state machine.

use std::time::Duration;

use crate::shutdown::power::Power;
use crate::supervise::down::SHUTDOWN;
use crate::supervise::event::{Action, Chore, Event, Report, Target, Timer};
use crate::supervise::facts::Facts;
use crate::supervise::service::{SERVICES, Service};
use crate::supervise::state::State;
use crate::supervise::up::{PAUSES, PROBES_MISSED, TRIAL_FAILURES};

/// The grace in the walk. Its length changes no decision.
pub const GRACE: Duration = Duration::from_mins(1);

/// The largest number of failures that is counted. More failures change nothing.
const MANY: usize = PAUSES.len() + 1;

const C: usize = Service::Containerd.index();
const K: usize = Service::Kubelet.index();

/// The timers that run, as a set of bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Timers(u16);

impl Timers {
    fn all() -> impl Iterator<Item = Timer> {
        SERVICES.into_iter().flat_map(Timer::of).chain([Timer::Stage])
    }

    const fn bit(timer: Timer) -> u16 {
        match timer {
            Timer::Start(service) => 1 << service.index(),
            Timer::Restart(service) => 4 << service.index(),
            Timer::Stable(service) => 16 << service.index(),
            Timer::Watchdog(service) => 64 << service.index(),
            Timer::Probe(service) => 256 << service.index(),
            Timer::Kill(service) => 1024 << service.index(),
            Timer::Stage => 4096,
        }
    }

    /// True if a timer runs.
    pub fn has(self, timer: Timer) -> bool {
        self.0 & Self::bit(timer) != 0
    }

    fn iter(self) -> impl Iterator<Item = Timer> {
        Self::all().filter(move |timer| self.has(*timer))
    }
}

/// The state of containerd's probes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
struct Probes {
    open: bool,
    missed: u8,
}

/// The state of the world.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[allow(clippy::struct_excessive_bools, reason = "they are independent of each other")]
pub struct World {
    /// True for services with a process.
    pub running: [bool; 2],
    /// True for services that are ready and not about to exit.
    pub ready: [bool; 2],
    /// True for services that were told to exit or announced their exit.
    ending: [bool; 2],
    /// True for services that were told to exit because their command has changed.
    renewing: [bool; 2],
    /// The number of failures in a row.
    failed: [usize; 2],
    /// True if a start deadline or a watchdog expired, which justifies an abort.
    late: [bool; 2],
    probes: Probes,
    /// The running timers.
    pub timers: Timers,
    stopping: Option<Target>,
    chore: Option<Chore>,
    inhibited: bool,
    recording: Option<Service>,
    granted: bool,
    trial: bool,
    cures: bool,
    asked: Option<Power>,
    /// The shutdown that has begun.
    pub down: Option<Power>,
    /// True if no action may follow.
    pub finished: bool,
}

impl World {
    /// Returns all events that can come now, sensible or not.
    pub fn possible(&self) -> Vec<Event> {
        let mut events = vec![Event::Shutdown(Power::Off)];
        // kubelet's grace and a cure are independent, so the walk with cures leaves out the
        // grace. With both there are five times as many states.
        if !self.cures {
            events.extend([Event::Shutdown(Power::Reboot), Event::Released]);
            events.push(Event::Grace(GRACE));
            events.extend(self.running[K].then_some(Event::Inhibited));
        }
        for service in SERVICES.into_iter().filter(|service| self.running[service.index()]) {
            events.extend([Event::Ready(service), Event::Exited(service)]);
            events.extend([Event::Fed(service), Event::Stopping(service)]);
            events.push(Event::Renewed(service));
        }
        if self.running[C] {
            events.extend([true, false].map(|yes| Event::Probed(Service::Containerd, yes)));
        }
        events.extend(self.timers.iter().map(Event::Due));
        events.extend(self.stopping.map(Event::Gone));
        events.extend(self.chore.map(Event::Finished));
        if let Some(service) = self.recording {
            events.extend([true, false].map(|granted| Event::Cure(service, granted)));
        }
        events
    }

    /// Applies the event to the world.
    fn happen(&mut self, event: Event) {
        match event {
            Event::Ready(service) if !self.ending[service.index()] => {
                self.ready[service.index()] = true;
            }
            Event::Stopping(service) => self.end(service),
            Event::Renewed(service) if self.down.is_none() => self.renew(service),
            Event::Exited(service) => self.exit(service),
            Event::Due(timer) => self.due(timer),
            Event::Probed(Service::Containerd, answered) if self.probes.open => {
                let missed = if answered { 0 } else { self.probes.missed + 1 };
                self.probes = Probes { open: false, missed };
            }
            Event::Finished(_) => self.chore = None,
            Event::Inhibited => self.inhibited = true,
            Event::Released => self.inhibited = false,
            Event::Cure(_, granted) => (self.recording, self.granted) = (None, granted),
            Event::Shutdown(power) => self.asked = self.asked.or(Some(power)),
            _ => {}
        }
    }

    fn exit(&mut self, service: Service) {
        let index = service.index();
        if !std::mem::take(&mut self.renewing[index]) || self.down.is_some() {
            self.failed[index] = (self.failed[index] + 1).min(MANY);
        }
        (self.running[index], self.ready[index], self.ending[index]) = (false, false, false);
        self.late[index] = false;
        match service {
            Service::Containerd => self.probes = Probes::default(),
            Service::Kubelet => self.inhibited = false,
        }
    }

    /// A service that is about to exit already fails all the same.
    fn renew(&mut self, service: Service) {
        if self.running[service.index()] && !self.ending[service.index()] {
            self.renewing[service.index()] = true;
            self.end(service);
        }
    }

    fn end(&mut self, service: Service) {
        (self.ready[service.index()], self.ending[service.index()]) = (false, true);
        if service == Service::Containerd {
            self.probes = Probes::default();
        }
    }

    fn due(&mut self, timer: Timer) {
        self.timers.0 &= !Timers::bit(timer);
        match timer {
            Timer::Stable(service) => {
                self.failed[service.index()] = 0;
                self.trial &= service != Service::Kubelet || !self.ready[K];
            }
            Timer::Start(service) | Timer::Watchdog(service) => self.late[service.index()] = true,
            Timer::Probe(_) if self.probes.open => {
                self.probes = Probes { open: false, missed: self.probes.missed + 1 };
            }
            _ => {}
        }
    }

    /// Applies the action to the world and checks the invariants that it must keep.
    fn act(&mut self, action: Action) {
        assert!(!self.finished, "{action:?} after the end");
        match action {
            Action::Start(service) => self.start(service),
            Action::Arm(timer, time) => self.arm(timer, time),
            Action::Disarm(timer) => self.timers.0 &= !Timers::bit(timer),
            Action::Probe(service) => {
                assert!(self.ready[service.index()] && self.down.is_none());
                self.probes.open = true;
            }
            Action::Abort(service) => self.abort(service),
            Action::Renew(service) => {
                let index = service.index();
                assert!(self.running[index] && self.renewing[index], "renewed without a reason");
                assert!(self.down.is_none(), "no-start-in-shutdown: {service} is renewed");
            }
            Action::Say(report) => self.say(report),
            Action::Record(service) => {
                assert!(self.cures && self.recording.is_none(), "one request at a time");
                self.recording = Some(service);
            }
            Action::Announce => assert!(self.inhibited && self.down.is_some()),
            Action::Terminate(target) => self.stopping = Some(target),
            Action::Kill(Target::Service(service)) => {
                let told = self.ending[service.index()] || self.down.is_some();
                assert!(self.running[service.index()] && told, "killed without a warning");
            }
            Action::Kill(target) => assert_eq!(self.stopping, Some(target)),
            Action::Run(chore) => (self.stopping, self.chore) = (None, Some(chore)),
            Action::Deadline(power, time) => self.go_down(power, time),
            Action::Finish(power) => {
                assert_eq!(self.down, Some(power), "not the power state of the first request");
                self.finished = true;
            }
        }
    }

    fn start(&mut self, service: Service) {
        assert!(!self.running[service.index()], "one-process: two processes of {service}");
        assert!(self.down.is_none(), "no-start-in-shutdown: {service}");
        let met = service == Service::Containerd || self.ready[C];
        assert!(met, "kubelet-after-containerd: started before READY");
        self.running[service.index()] = true;
    }

    fn arm(&mut self, timer: Timer, time: Duration) {
        assert!(time > Duration::ZERO);
        match timer {
            Timer::Restart(service) => {
                let failed = self.failed[service.index()];
                let expected = PAUSES[(failed - 1).min(PAUSES.len() - 1)];
                assert_eq!(time, expected, "pause-grows: {service} failed {failed} times");
            }
            Timer::Watchdog(service) => {
                assert!(self.ready[service.index()], "watchdog-after-ready: {service}");
            }
            _ => {}
        }
        self.timers.0 |= Timers::bit(timer);
    }

    fn abort(&mut self, service: Service) {
        assert!(self.running[service.index()] && self.down.is_none());
        let reason = match service {
            Service::Containerd => self.late[C] || self.probes.missed >= PROBES_MISSED,
            Service::Kubelet => {
                assert!(self.ready[K], "no-deadline-for-bootstrap: kubelet was not ready");
                self.late[K] && self.ready[C] && self.probes.missed == 0
            }
        };
        assert!(reason, "containerd-first: {service} ended without a reason");
        self.end(service);
    }

    fn say(&mut self, report: Report) {
        match report {
            Report::Hung(_) => {}
            Report::AtCap(service) => assert_eq!(self.failed[service.index()], PAUSES.len()),
            Report::Trial(service) => {
                assert!(self.trial, "trial-ends: not in a trial");
                assert_eq!(self.failed[service.index()], usize::from(TRIAL_FAILURES));
                self.asked = self.asked.or(Some(Power::Reboot));
            }
            Report::Cure(_) => {
                assert!(self.granted, "cures-are-counted: an uncounted reboot");
                self.asked = self.asked.or(Some(Power::Reboot));
            }
        }
    }

    fn go_down(&mut self, power: Power, time: Duration) {
        assert_eq!(self.down, None, "first-request-counts: a second deadline");
        assert_eq!(self.asked, Some(power), "first-request-counts: without a request");
        assert!(time == SHUTDOWN || self.inhibited && time == SHUTDOWN + GRACE);
        self.down = Some(power);
    }

    /// Lets an event happen and checks all actions that follow.
    pub fn take(&mut self, state: &mut State, event: Event) -> Vec<Action> {
        let renewing = self.renewing;
        self.happen(event);
        let actions = state.take(event);
        for action in &actions {
            self.act(*action);
        }
        for service in SERVICES {
            let at_cap = self.failed[service.index()] == PAUSES.len() && !renewing[service.index()];
            if event == Event::Exited(service) && at_cap && self.down.is_none() {
                let said = actions.contains(&Action::Say(Report::AtCap(service)));
                assert!(said, "cap-is-reported: {service}");
            }
            let failed = self.failed[service.index()] >= usize::from(TRIAL_FAILURES);
            assert!(
                !(self.trial && failed) || self.down.is_some(),
                "trial-ends: the boot continues"
            );
        }
        actions
    }
}

/// Returns a node after its first event.
pub fn booted(facts: Facts) -> (State, World) {
    let mut state = State::new(facts);
    let mut world = World { trial: facts.trial, cures: facts.cures, ..World::default() };
    world.take(&mut state, Event::Boot);
    (state, world)
}
