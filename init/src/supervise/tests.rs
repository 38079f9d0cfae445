//! A walk through all states that any order of events can reach, with a model of the world.
//!
//! `docs/boot.md` names the invariants. [`world`] checks those of actions, this file those of
//! states.

use std::collections::HashSet;
use std::time::Duration;

use super::down::{ANSWER, KILL_GRACE, SHUTDOWN, STAGES, Stage};
use super::event::{Action, Event, Report, Target, Timer};
use super::facts::Facts;
use super::service::{SERVICES, Service};
use super::state::State;
use super::up::{
    ABORT_GRACE, PAUSES, PROBE, PROBES_MISSED, STABLE, START, ServiceState, TRIAL_FAILURES,
    WATCHDOG,
};
use crate::shutdown::power::Power;
use world::{World, booted};

mod world;

/// Returns the facts in which boots differ. A trial boot ends before a cure can happen.
fn all_facts() -> [Facts; 3] {
    let facts = |trial, cures| Facts { trial, cures, ..Facts::default() };
    [facts(false, false), facts(true, false), facts(false, true)]
}

/// Visits every reachable state once and returns their number.
fn walk(facts: Facts, mut visit: impl FnMut(&State, &World)) -> usize {
    let mut seen = HashSet::new();
    let mut open = vec![booted(facts)];
    while let Some((state, world)) = open.pop() {
        if !seen.insert((state, world)) {
            continue;
        }
        visit(&state, &world);
        for event in world.possible().into_iter().filter(|_| !world.finished) {
            let (mut state, mut world) = (state, world);
            world.take(&mut state, event);
            open.push((state, world));
        }
    }
    seen.len()
}

/// Checks the invariants of a state.
fn check(state: &State, world: &World) {
    match state {
        State::Up(up) => {
            for service in SERVICES {
                let now = up.services[service.index()];
                assert_eq!(now.runs(), world.running[service.index()], "{now:?}");
                check_timers(service, now, world);
            }
            let waits = world.running[0] || world.timers.has(Timer::Restart(Service::Containerd));
            assert!(waits, "never-given-up: nothing would start containerd");
        }
        State::Down(down) => {
            assert_eq!(down.running, world.running);
            assert!(world.finished || world.timers.has(Timer::Stage), "stuck in {state:?}");
        }
    }
}

/// Checks that every state has the timer that ends it, and no timer of another state.
fn check_timers(service: Service, now: ServiceState, world: &World) {
    let kubelet = service == Service::Kubelet;
    let has = |timer: fn(Service) -> Timer| world.timers.has(timer(service));
    let ready = matches!(now, ServiceState::Ready(..));
    assert_eq!(has(Timer::Restart), matches!(now, ServiceState::Pausing(_)), "{now:?}");
    assert_eq!(has(Timer::Start), !kubelet && matches!(now, ServiceState::Starting(_)), "{now:?}");
    assert_eq!(has(Timer::Probe), !kubelet && ready, "{now:?}");
    assert_eq!(has(Timer::Watchdog), kubelet && ready, "{now:?}");
    let exiting = matches!(now, ServiceState::Ending(_) | ServiceState::Renewing(_));
    assert!(!has(Timer::Kill) || exiting, "{now:?}");
    assert!(
        !has(Timer::Stable) || matches!(now, ServiceState::Starting(_) | ServiceState::Ready(..)),
        "{now:?}"
    );
}

/// Shuts a node down while nothing answers, and checks that it goes down in time.
fn check_the_way_down(state: &State, world: &World) {
    let (mut state, mut world) = (*state, *world);
    let (mut limit, mut time) = (None, Duration::ZERO);
    let mut event = Event::Shutdown(Power::Off);
    for _ in 0..3 * STAGES.len() {
        for action in world.take(&mut state, event) {
            match action {
                Action::Deadline(_, deadline) => limit = Some(deadline),
                Action::Arm(Timer::Stage, wait) => time += wait,
                _ => {}
            }
        }
        if world.finished {
            break;
        }
        event = Event::Due(Timer::Stage);
    }
    assert!(world.finished, "always-down: {state:?}");
    // A shutdown that had begun before has used some of its time.
    assert!(limit.is_none_or(|limit| time < limit), "always-down: {time:?} of {limit:?}");
}

#[test]
fn no_order_of_events_breaks_an_invariant() {
    for facts in all_facts() {
        let mut ways = HashSet::new();
        let states = walk(facts, |state, world| {
            check(state, world);
            // A shutdown depends only on the running processes and on kubelet's grace.
            let begin = match state {
                State::Up(up) => (None, world.running, Some((up.facts.grace, up.facts.inhibited))),
                State::Down(_) => (Some(*state), world.running, None),
            };
            if !world.finished && ways.insert(begin) {
                check_the_way_down(state, world);
            }
        });
        println!("{facts:?}: {states} states, {} ways down", ways.len());
        assert!(states > 1000, "only {states} states: the walk stops early");
    }
}

#[test]
fn all_stages_fit_into_the_deadline() {
    let times = STAGES.iter().map(|stage| match stage {
        Stage::Stop(_, time) => *time + KILL_GRACE,
        Stage::Run(_, time) => *time,
        Stage::Announce => ANSWER,
        Stage::Over => Duration::ZERO,
    });
    assert!(times.sum::<Duration>() < SHUTDOWN);
}

#[test]
fn a_disk_that_stalls_for_a_minute_makes_no_service_count_as_hung() {
    let stall = Duration::from_mins(1);
    assert!(PROBE * u32::from(PROBES_MISSED) > stall);
    // kubelet feeds at half of its time, so half of it can be used up when the disk stalls.
    assert!(WATCHDOG / 2 >= stall);
    assert!(START > 2 * stall && ABORT_GRACE < SHUTDOWN);
}

/// Lets containerd fail `count` times and returns the pauses.
fn pauses(state: &mut State, count: usize) -> Vec<Duration> {
    let service = Service::Containerd;
    let mut pauses = Vec::new();
    for _ in 0..count {
        for action in state.take(Event::Exited(service)) {
            if let Action::Arm(Timer::Restart(_), pause) = action {
                pauses.push(pause);
            }
        }
        state.take(Event::Due(Timer::Restart(service)));
    }
    pauses
}

#[test]
fn pauses_grow_to_a_cap_and_fall_back_after_a_stable_time() {
    let (mut state, _) = booted(Facts::default());
    let mut expected = PAUSES.to_vec();
    expected.extend([PAUSES[6]; 3]);
    assert_eq!(pauses(&mut state, 10), expected);

    let armed = state.take(Event::Ready(Service::Containerd));
    assert!(armed.contains(&Action::Arm(Timer::Stable(Service::Containerd), STABLE)));
    state.take(Event::Due(Timer::Stable(Service::Containerd)));
    assert_eq!(pauses(&mut state, 1), [PAUSES[0]]);
}

#[test]
fn being_ready_for_a_moment_does_not_shorten_the_pause() {
    let (mut state, _) = booted(Facts::default());
    assert_eq!(pauses(&mut state, 3), PAUSES[..3]);
    state.take(Event::Ready(Service::Containerd));
    assert_eq!(pauses(&mut state, 1), [PAUSES[3]]);
}

#[test]
fn kubelet_keeps_running_while_containerd_restarts() {
    let (mut state, _) = booted(Facts::default());
    let actions = state.take(Event::Ready(Service::Containerd));
    assert_eq!(actions.last(), Some(&Action::Start(Service::Kubelet)));
    let actions = state.take(Event::Exited(Service::Containerd));
    assert!(actions.iter().all(|action| !matches!(action, Action::Terminate(_) | Action::Kill(_))));
    let State::Up(up) = state else { panic!("not up") };
    assert!(matches!(up.services[1], ServiceState::Starting(_)));
}

#[test]
fn a_shutdown_goes_through_its_stages_in_order() {
    let (mut state, mut world) = booted(Facts::default());
    world.take(&mut state, Event::Ready(Service::Containerd));
    let mut order = Vec::new();
    let mut event = Event::Shutdown(Power::Reboot);
    while !world.finished {
        for action in world.take(&mut state, event) {
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

/// Returns a node with both services ready.
fn ready_node() -> (State, World) {
    let (mut state, mut world) = booted(Facts::default());
    for service in SERVICES {
        world.take(&mut state, Event::Ready(service));
    }
    (state, world)
}

#[test]
fn containerd_is_killed_after_its_third_missed_probe_and_not_before() {
    let (mut state, mut world) = ready_node();
    let probe = Event::Due(Timer::Probe(Service::Containerd));
    let abort = Action::Abort(Service::Containerd);
    for _ in 0..PROBES_MISSED {
        let actions = world.take(&mut state, probe);
        assert!(actions.contains(&Action::Probe(Service::Containerd)));
        assert!(!actions.contains(&abort));
    }
    let actions = world.take(&mut state, probe);
    assert!(actions.contains(&abort));
    let wound_up = Action::Arm(Timer::Watchdog(Service::Kubelet), WATCHDOG);
    assert!(actions.contains(&wound_up), "kubelet gets its whole time again");
    let killed = world.take(&mut state, Event::Due(Timer::Kill(Service::Containerd)));
    assert_eq!(killed, [Action::Kill(Target::Service(Service::Containerd))]);
}

#[test]
fn one_answer_forgives_all_missed_probes() {
    let (mut state, mut world) = ready_node();
    for _ in 0..10 {
        for _ in 0..PROBES_MISSED {
            world.take(&mut state, Event::Due(Timer::Probe(Service::Containerd)));
        }
        world.take(&mut state, Event::Probed(Service::Containerd, true));
    }
    assert!(world.running[0]);
}

#[test]
fn a_kubelet_that_does_not_feed_is_killed_only_while_containerd_answers() {
    let (mut state, mut world) = ready_node();
    let starved = Event::Due(Timer::Watchdog(Service::Kubelet));
    for _ in 0..2 {
        world.take(&mut state, Event::Due(Timer::Probe(Service::Containerd)));
    }
    let waits = Action::Arm(Timer::Watchdog(Service::Kubelet), WATCHDOG);
    assert_eq!(world.take(&mut state, starved), [waits]);
    world.take(&mut state, Event::Probed(Service::Containerd, true));
    let actions = world.take(&mut state, starved);
    assert!(actions.contains(&Action::Abort(Service::Kubelet)));
}

#[test]
fn a_kubelet_that_waits_an_hour_for_its_api_server_has_not_failed() {
    let (mut state, mut world) = booted(Facts { trial: true, ..Facts::default() });
    world.take(&mut state, Event::Ready(Service::Containerd));
    let service = Service::Kubelet;
    for _ in 0..20 {
        world.take(&mut state, Event::Due(Timer::Stable(service)));
        let actions = world.take(&mut state, Event::Exited(service));
        assert!(actions.contains(&Action::Arm(Timer::Restart(service), PAUSES[0])));
        world.take(&mut state, Event::Due(Timer::Restart(service)));
    }
    assert!(world.running[service.index()] && world.down.is_none());
}

#[test]
fn a_trial_boot_ends_with_the_fifth_failure_and_no_other_boot_does() {
    for (trial, reboots) in [(true, true), (false, false)] {
        let (mut state, _) = booted(Facts { trial, ..Facts::default() });
        pauses(&mut state, usize::from(TRIAL_FAILURES) - 1);
        assert!(matches!(state, State::Up(_)));
        pauses(&mut state, 1);
        assert_eq!(matches!(state, State::Down(_)), reboots);
    }
}

#[test]
fn a_trial_ends_when_kubelet_was_ready_for_its_stable_time() {
    let (mut state, mut world) = booted(Facts { trial: true, ..Facts::default() });
    world.take(&mut state, Event::Ready(Service::Containerd));
    world.take(&mut state, Event::Ready(Service::Kubelet));
    world.take(&mut state, Event::Due(Timer::Stable(Service::Kubelet)));
    pauses(&mut state, 20);
    assert!(matches!(state, State::Up(_)));
}

#[test]
fn the_cap_is_reported_once_and_a_cure_is_requested_once() {
    let service = Service::Containerd;
    let (mut state, _) = booted(Facts { cures: true, ..Facts::default() });
    let (mut said, mut asked) = (0, 0);
    for _ in 0..30 {
        let actions = state.take(Event::Exited(service));
        said += actions.iter().filter(|a| **a == Action::Say(Report::AtCap(service))).count();
        asked += actions.iter().filter(|a| **a == Action::Record(service)).count();
        state.take(Event::Due(Timer::Restart(service)));
    }
    assert_eq!((said, asked), (1, 1));
    let actions = state.take(Event::Cure(service, true));
    assert!(actions.contains(&Action::Deadline(Power::Reboot, SHUTDOWN)));
}

#[test]
fn kubelet_stops_its_pods_first_and_within_its_grace() {
    for end in [Event::Released, Event::Due(Timer::Stage), Event::Exited(Service::Kubelet)] {
        let (mut state, mut world) = ready_node();
        world.take(&mut state, Event::Grace(world::GRACE));
        world.take(&mut state, Event::Inhibited);
        let actions = world.take(&mut state, Event::Shutdown(Power::Off));
        let deadline = Action::Deadline(Power::Off, world::GRACE + SHUTDOWN);
        let wait = Action::Arm(Timer::Stage, world::GRACE + ANSWER);
        assert_eq!(actions[actions.len() - 3..], [deadline, Action::Announce, wait]);
        assert_eq!(world.take(&mut state, Event::Shutdown(Power::Reboot)), [], "pressed twice");
        let actions = world.take(&mut state, end);
        assert!(actions.iter().any(|action| matches!(action, Action::Terminate(_))), "{end:?}");
    }
}
