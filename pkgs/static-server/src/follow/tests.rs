//! When content is read again, and what holds after that.

use super::{Bell, Decision};
use crate::source::{Look, Source};
use std::time::Duration;

fn looks() -> [Look; 3] {
    let folder = tempfile::tempdir().unwrap();
    let source = Source::Folder(folder.path().into());
    ["a", "b", "c"].map(|name| {
        std::fs::write(folder.path().join(name), "").unwrap();
        source.look().unwrap()
    })
}

#[test]
fn it_is_read_again_when_it_has_changed_and_come_to_rest() {
    let [one, two, three] = looks();
    let mut decision = Decision { served: one, is_doubtful: false, last: None };
    assert!(!decision.is_time(one));
    assert!(!decision.is_time(two));
    assert!(!decision.is_time(three));
    assert!(decision.is_time(three));
    assert!(!decision.is_time(one));
    assert!(!decision.is_time(two), "it went back and forth");
}

#[test]
fn what_was_read_too_soon_after_a_change_is_read_again() {
    let [one, ..] = looks();
    let mut decision = Decision { served: one, is_doubtful: true, last: None };
    assert!(!decision.is_time(one));
    assert!(decision.is_time(one));
}

#[test]
fn a_bell_that_was_rung_is_heard_once() {
    let bell = Bell::default();
    bell.ring();
    assert!(bell.wait(None));
    assert!(!bell.wait(Some(Duration::ZERO)));
}
