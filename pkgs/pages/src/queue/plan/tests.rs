use std::time::Duration;

use proptest::prelude::*;

use super::{Bounds, End, Queue};
use crate::key::SiteKey;
use crate::queue::saved::Saved;

const INTERVAL: Duration = Duration::from_mins(5);

const fn at(seconds: u64) -> Duration {
    Duration::from_secs(1_000_000 + seconds)
}

fn key(text: &str) -> SiteKey {
    text.parse().unwrap()
}

fn queue(sites: &[&str]) -> Queue {
    let mut queue = Queue::new(Bounds { all: 4, namespace: 2 });
    for site in sites {
        queue.add(&key(site), INTERVAL, None, at(0));
    }
    queue
}

fn taken(queue: &mut Queue, now: Duration) -> Vec<String> {
    std::iter::from_fn(|| queue.take(now)).map(|site| site.to_string()).collect()
}

#[test]
fn namespaces_take_turns_and_none_takes_all_places() {
    let mut queue = queue(&["a/1", "a/2", "a/3", "a/4", "b/1", "c/1"]);
    assert_eq!(taken(&mut queue, at(0)), ["a/1", "b/1", "c/1", "a/2"]);
    assert_eq!(queue.next(), None, "all places are taken");
    queue.done(&key("c/1"), End::Success, at(1));
    assert_eq!(taken(&mut queue, at(1)), [""; 0], "two of the namespace a hang");
    queue.done(&key("a/1"), End::Failure, at(1));
    assert_eq!(taken(&mut queue, at(1)), ["a/3"]);
}

#[test]
fn many_requests_are_one_fetch_and_one_more_if_it_runs() {
    let mut queue = queue(&["a/1"]);
    for _ in 0..100 {
        assert!(queue.request(&key("a/1"), at(0)));
    }
    assert_eq!(taken(&mut queue, at(0)), ["a/1"]);
    for _ in 0..100 {
        queue.request(&key("a/1"), at(1));
    }
    assert_eq!(taken(&mut queue, at(1)), [""; 0], "a site never runs twice at a time");
    queue.done(&key("a/1"), End::Success, at(2));
    assert_eq!(taken(&mut queue, at(3)), ["a/1"]);
    queue.done(&key("a/1"), End::Success, at(4));
    assert_eq!(taken(&mut queue, at(5)), [""; 0]);
    assert!(!queue.request(&key("a/2"), at(5)));
}

#[test]
fn a_site_is_polled_at_its_interval_and_later_if_it_fails() {
    let mut queue = queue(&["a/1"]);
    queue.take(at(0)).unwrap();
    queue.done(&key("a/1"), End::Success, at(0));
    let due = queue.next().unwrap();
    assert!((at(270)..=at(300)).contains(&due));
    assert_eq!(queue.take(at(269)), None);
    for _ in 0..3 {
        let now = queue.next().unwrap();
        queue.take(now).unwrap();
        queue.done(&key("a/1"), End::Failure, now);
    }
    let last = queue.next().unwrap();
    let push = last.saturating_sub(Duration::from_secs(5));
    queue.request(&key("a/1"), push);
    assert_eq!(queue.next(), Some(push), "a push does not wait");
}

#[test]
fn requests_in_a_row_keep_a_gap() {
    let mut queue = queue(&["a/1"]);
    queue.take(at(0)).unwrap();
    queue.done(&key("a/1"), End::Success, at(0));
    queue.request(&key("a/1"), at(0));
    assert_eq!(queue.next(), Some(at(1)));
}

#[test]
fn a_restart_keeps_times_and_repeats_what_was_running() {
    let mut queue = queue(&["a/1", "a/2"]);
    queue.take(at(0)).unwrap();
    queue.done(&key("a/1"), End::Failure, at(0));
    let due = queue.due(&key("a/1"));
    assert_eq!(queue.take(at(1)).unwrap(), key("a/2"));
    let saved = Saved::parse(&queue.save(at(2)).bytes()).unwrap();
    let mut queue = Queue::new(Bounds::default());
    for site in ["a/1", "a/2", "a/3"] {
        queue.add(&key(site), INTERVAL, saved.get(&key(site)), at(3));
    }
    assert_eq!(queue.due(&key("a/1")), due);
    assert_eq!(taken(&mut queue, at(3)), ["a/2", "a/3"]);
    // A clock that was wrong before the restart.
    let mut queue = Queue::new(Bounds::default());
    queue.add(&key("a/1"), INTERVAL, saved.get(&key("a/1")), Duration::from_secs(5));
    assert!(queue.next().unwrap() <= Duration::from_secs(5) + INTERVAL);
}

#[test]
fn the_lag_is_the_longest_wait() {
    let mut queue = Queue::new(Bounds { all: 1, namespace: 1 });
    assert_eq!(queue.lag(at(100)), Duration::ZERO);
    for (name, seconds) in [("a/x", 0), ("b/x", 3)] {
        let due = at(100 + seconds);
        queue.add(&name.parse().unwrap(), Duration::from_mins(5), None, due);
    }
    assert_eq!(queue.lag(at(105)), Duration::from_secs(5));
    queue.take(at(100));
    assert_eq!(queue.lag(at(105)), Duration::from_secs(2));
}

proptest! {
    #[test]
    fn no_site_is_lost_and_no_bound_is_broken(
        steps in proptest::collection::vec((0_u8..5, 0_u8..4, 0_u8..3, 0_u64..400), 0..200)
    ) {
        let mut queue = Queue::new(Bounds { all: 3, namespace: 2 });
        let mut running: Vec<SiteKey> = Vec::new();
        let mut sites = std::collections::BTreeSet::new();
        let mut now = 0;
        for (step, namespace, site, wait) in steps {
            now += wait;
            let site = key(&format!("n{namespace}/s{site}"));
            match step {
                0 => {
                    queue.add(&site, INTERVAL, None, at(now));
                    sites.insert(site);
                }
                1 => drop(queue.request(&site, at(now))),
                2 => {
                    queue.remove(&site);
                    sites.remove(&site);
                    running.retain(|one| *one != site);
                }
                3 => if let Some(site) = queue.take(at(now)) {
                    prop_assert!(!running.contains(&site) && sites.contains(&site));
                    running.push(site);
                },
                _ => if let Some(site) = running.pop() {
                    queue.done(&site, if wait % 2 == 0 { End::Success } else { End::Failure }, at(now));
                },
            }
            prop_assert_eq!(queue.counts(), (sites.len(), running.len()));
            prop_assert!(running.len() <= 3);
            prop_assert!(running.iter().filter(|one| one.namespace() == "n0").count() <= 2);
        }
        for site in running.drain(..) {
            queue.done(&site, End::Success, at(now));
        }
        let late = at(now + 100_000);
        let mut seen = std::collections::BTreeSet::new();
        while let Some(site) = queue.take(late) {
            queue.done(&site, End::Success, late);
            seen.insert(site);
        }
        prop_assert_eq!(seen, sites);
    }
}

#[test]
fn a_hurry_brings_every_site_forward_and_delays_none() {
    let mut queue = queue(&["a/1", "a/2", "b/1"]);
    for site in taken(&mut queue, at(0)) {
        queue.done(&key(&site), End::Success, at(0));
    }
    queue.request(&key("b/1"), at(1));
    let soon = queue.due(&key("b/1"));
    queue.hurry(Duration::from_mins(1), at(1));
    assert_eq!(queue.due(&key("b/1")), soon);
    for site in ["a/1", "a/2"] {
        let due = queue.due(&key(site)).unwrap();
        assert!((at(1)..=at(61)).contains(&due), "{site}: {due:?}");
    }
    assert_eq!(taken(&mut queue, at(61)).len(), 3);
}
