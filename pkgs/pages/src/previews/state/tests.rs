use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;

use super::{REFERENCES_MAX, State};
use crate::previews::reference::Reference;
use crate::previews::wish::Wish;

const DAY: Duration = Duration::from_hours(24);
const NOW: Duration = Duration::from_secs(1_000_000_000);

fn wish() -> Wish {
    Wish {
        main: "main".to_owned(),
        branches: vec!["f/*".to_owned()],
        pulls: true,
        forks: false,
        lifetime: DAY,
        max: 10,
    }
}

fn listed(list: &[(&str, &str)]) -> BTreeMap<Reference, String> {
    list.iter().map(|(name, commit)| (name.parse().unwrap(), (*commit).to_owned())).collect()
}

fn live(state: &State, wish: &Wish, now: Duration) -> Vec<String> {
    let live = state.live(wish, now);
    live.iter().map(|live| format!("{} {}", live.reference, live.commit)).collect()
}

#[test]
fn branches_come_change_and_go() {
    let (mut state, wish) = (State::new("r"), wish());
    state.look(
        &wish,
        &listed(&[("refs/heads/main", "m"), ("refs/heads/f/a", "1"), ("refs/heads/x", "2")]),
        NOW,
    );
    assert_eq!(live(&state, &wish, NOW), ["refs/heads/f/a 1"]);
    state.look(&wish, &listed(&[("refs/heads/f/a", "3"), ("refs/heads/f/b", "1")]), NOW + DAY / 2);
    assert_eq!(live(&state, &wish, NOW), ["refs/heads/f/a 3", "refs/heads/f/b 1"]);
    let other = Wish { branches: vec!["*b".to_owned()], ..wish.clone() };
    assert_eq!(live(&state, &other, NOW), ["refs/heads/f/b 1"], "a new wish counts at once");
    state.look(&wish, &listed(&[("refs/heads/f/b", "1")]), NOW + DAY / 2);
    assert_eq!(live(&state, &wish, NOW), ["refs/heads/f/b 1"]);
}

#[test]
fn a_lifetime_ends_once_and_a_new_commit_begins_another() {
    let (mut state, wish) = (State::new("r"), wish());
    let first = listed(&[("refs/heads/f/a", "1")]);
    state.look(&wish, &first, NOW);
    assert_eq!(state.next_expiry(&wish, NOW), Some(NOW + DAY));
    let almost = NOW + Duration::from_secs(24 * 3600 - 1);
    assert_eq!(live(&state, &wish, almost).len(), 1);
    assert_eq!(
        (live(&state, &wish, NOW + DAY).len(), state.next_expiry(&wish, NOW + DAY)),
        (0, None)
    );
    state.look(&wish, &first, NOW + DAY);
    assert!(live(&state, &wish, NOW + DAY).is_empty(), "the same commit does not come back");
    state.look(&wish, &listed(&[("refs/heads/f/a", "2")]), NOW + DAY);
    assert_eq!(live(&state, &wish, NOW + DAY), ["refs/heads/f/a 2"]);
}

#[test]
fn a_pull_request_of_a_stranger_needs_an_explicit_wish() {
    let strangers = Wish { forks: true, ..wish() };
    let list = listed(&[
        ("refs/heads/main", "m"),
        ("refs/heads/own", "1"),
        ("refs/pull/1/head", "1"),
        ("refs/pull/2/head", "evil"),
        ("refs/pull/3/head", "m"),
    ]);
    for is_announced in [false, true] {
        let mut state = State::new("r");
        if is_announced {
            state.announce(Reference::Pull(2), false);
        }
        state.look(&wish(), &list, NOW);
        assert_eq!(live(&state, &wish(), NOW), ["refs/pull/1/head 1"], "a branch has the commit");
    }
    let mut state = State::new("r");
    state.announce(Reference::Pull(2), false);
    state.look(&strangers, &list, NOW);
    assert_eq!(live(&state, &strangers, NOW), ["refs/pull/1/head 1", "refs/pull/2/head evil"]);
    let mut later = list.clone();
    later.insert(Reference::Pull(4), "new".to_owned());
    state.look(&strangers, &later, NOW);
    assert_eq!(live(&state, &strangers, NOW).last().unwrap(), "refs/pull/4/head new");
}

#[test]
fn a_commit_of_a_stranger_on_a_known_request_changes_nothing() {
    let (mut state, wish) = (State::new("r"), wish());
    state.look(&wish, &listed(&[("refs/heads/own", "1"), ("refs/pull/1/head", "1")]), NOW);
    state.look(&wish, &listed(&[("refs/heads/own", "1"), ("refs/pull/1/head", "evil")]), NOW);
    assert_eq!(live(&state, &wish, NOW), ["refs/pull/1/head 1"]);
}

#[test]
fn a_closed_request_stays_closed_until_it_is_opened_again() {
    let (mut state, wish) = (State::new("r"), wish());
    let list = listed(&[("refs/heads/own", "1"), ("refs/merge-requests/7/head", "1")]);
    state.look(&wish, &list, NOW);
    state.announce(Reference::Merge(7), true);
    assert!(live(&state, &wish, NOW).is_empty());
    state.look(&wish, &list, NOW);
    assert!(live(&state, &wish, NOW).is_empty());
    state.announce(Reference::Merge(7), false);
    assert_eq!(live(&state, &wish, NOW).len(), 1);
    let mut early = State::new("r");
    early.announce(Reference::Merge(7), true);
    early.look(&wish, &list, NOW);
    assert!(live(&early, &wish, NOW).is_empty(), "closed before the first look");
}

#[test]
fn memory_is_bounded_and_a_full_one_is_stable() {
    let (mut state, mut wish) = (State::new("r"), wish());
    wish.branches = vec!["*".to_owned()];
    let many: BTreeMap<Reference, String> = (0..REFERENCES_MAX + 50)
        .map(|number| (Reference::Branch(format!("f/{number:05}")), "1".to_owned()))
        .collect();
    state.look(&wish, &many, NOW);
    let first = state.clone();
    assert!(state.is_full && state.live(&wish, NOW).len() == REFERENCES_MAX);
    state.look(&wish, &many, NOW + DAY / 2);
    assert_eq!(state, first);
}

#[test]
fn a_file_of_another_repository_or_a_damaged_one_is_not_used() {
    let mut state = State::new("r");
    state.look(&wish(), &listed(&[("refs/heads/f/a", "1"), ("refs/pull/1/head", "1")]), NOW);
    let bytes = state.bytes();
    assert_eq!(State::parse(&bytes, "r"), Some(state));
    assert!(State::parse(&bytes, "s").is_none() && State::parse(&bytes[1..], "r").is_none());
}

proptest! {
    #[test]
    fn a_live_preview_is_listed_wanted_and_young(
        looks in proptest::collection::vec(
            (proptest::collection::btree_map((0_u64..6, any::<bool>()), 0_u8..4, 0..8), 0_u64..40, 0_u64..6, any::<bool>()),
            1..20,
        ),
        forks in any::<bool>(),
    ) {
        let wish = Wish { forks, ..wish() };
        let (mut state, mut now) = (State::new("r"), NOW);
        for (list, hours, number, is_closed) in looks {
            now += Duration::from_hours(hours);
            let list: BTreeMap<Reference, String> = list
                .into_iter()
                .map(|((number, is_branch), commit)| {
                    let reference = if is_branch || number == 0 {
                        Reference::Branch(format!("f/{number}"))
                    } else {
                        Reference::Pull(number)
                    };
                    (reference, commit.to_string())
                })
                .collect();
            if number > 0 {
                state.announce(Reference::Pull(number), is_closed);
            }
            state.look(&wish, &list, now);
            for live in state.live(&wish, now) {
                prop_assert!(list.contains_key(&live.reference) && wish.wants(&live.reference));
                prop_assert!(live.expires > now && live.since <= now);
                prop_assert!(!live.commit.is_empty());
            }
            prop_assert!(state.live(&wish, now + DAY).is_empty());
            prop_assert_eq!(State::parse(&state.bytes(), "r"), Some(state.clone()));
        }
    }
}
