//! The events that the syncer writes about a site. Pure.
//!
//! An event is written when the state changes, not when it is found again.

use crate::api::{Condition, ConditionStatus, ROLLED_BACK};
use crate::syncer::desired::Report;
use crate::syncer::work::Outcome;

/// The most characters of a note. The API allows 1,024 bytes, and one character has four at most.
const NOTE_CHARS_MAX: usize = 250;

/// An event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// True if the owner of the site should act.
    pub is_warning: bool,
    /// The reason: one word.
    pub reason: String,
    /// The text for people.
    pub note: String,
}

/// Returns the event for a new state; nothing if the state is the old one.
#[must_use]
pub fn event(old: Option<&Condition>, outcome: &Outcome, report: &Report) -> Option<Event> {
    let was_rolled_back = old.is_some_and(|old| old.reason == ROLLED_BACK);
    let has_failed = old.is_some_and(|old| old.status == ConditionStatus::False);
    let commit = report.revision.as_ref().map_or("", |revision| revision.commit.as_str());
    let first = report.message.lines().next().unwrap_or_default();
    let usual = |reason: &str, note: String| Some(Event::new(false, reason, &note));
    match outcome {
        Outcome::Failed { reason, message } => {
            let is_known = has_failed && old.is_some_and(|old| old.reason == *reason);
            (!is_known).then(|| Event::new(true, reason, message))
        }
        Outcome::Published(_) if has_failed => usual("Recovered", format!("{first} is published")),
        Outcome::Published(_) => usual("Published", format!("{first} is published")),
        Outcome::Unchanged if has_failed => usual("Recovered", format!("{commit} is up to date")),
        Outcome::Rolled if report.reason == ROLLED_BACK && !was_rolled_back => {
            usual(ROLLED_BACK, format!("a rollback brought {commit} into force"))
        }
        Outcome::Rolled if report.is_synced && was_rolled_back && report.reason != ROLLED_BACK => {
            usual("RollbackEnded", format!("{commit} is in force"))
        }
        _ => None,
    }
}

impl Event {
    fn new(is_warning: bool, reason: &str, note: &str) -> Self {
        let note = note.chars().take(NOTE_CHARS_MAX).collect();
        Self { is_warning, reason: reason.to_owned(), note }
    }
}

#[cfg(test)]
mod tests {
    use super::event;
    use crate::api::{Condition, ConditionStatus};
    use crate::publish::note::Notes;
    use crate::syncer::desired::Report;
    use crate::syncer::work::Outcome;

    fn report(is_synced: bool, reason: &str) -> Report {
        Report {
            is_synced,
            reason: reason.to_owned(),
            message: "c0ffee\n/a is a submodule".to_owned(),
            revision: None,
            revisions: Vec::new(),
            next_sync: None,
        }
    }

    fn check(old: Option<(bool, &str)>, outcome: &Outcome, now: &Report, expected: Option<&str>) {
        let old = old.map(|(is_so, reason)| Condition {
            kind: "Synced".to_owned(),
            status: if is_so { ConditionStatus::True } else { ConditionStatus::False },
            reason: reason.to_owned(),
            message: String::new(),
            last_transition_time: String::new(),
            observed_generation: None,
        });
        let found = event(old.as_ref(), outcome, now);
        assert_eq!(found.map(|event| event.reason).as_deref(), expected, "{old:?} {outcome:?}");
    }

    #[test]
    fn only_a_change_is_an_event() {
        let failed = |reason| Outcome::Failed { reason, message: "x".repeat(5000) };
        let published = Outcome::Published(Notes::default());
        let (good, bad) = (report(true, "Published"), report(false, "TimedOut"));
        check(None, &published, &good, Some("Published"));
        check(Some((true, "Published")), &Outcome::Unchanged, &good, None);
        check(Some((true, "Published")), &failed("TimedOut"), &bad, Some("TimedOut"));
        check(Some((false, "TimedOut")), &failed("TimedOut"), &bad, None);
        check(Some((false, "TimedOut")), &failed("AccessDenied"), &bad, Some("AccessDenied"));
        check(Some((false, "TimedOut")), &Outcome::Unchanged, &good, Some("Recovered"));
        check(Some((false, "TimedOut")), &published, &good, Some("Recovered"));
        let held = report(true, "RolledBack");
        check(Some((true, "Published")), &Outcome::Rolled, &held, Some("RolledBack"));
        check(Some((true, "RolledBack")), &Outcome::Rolled, &held, None);
        check(Some((true, "RolledBack")), &Outcome::Rolled, &good, Some("RollbackEnded"));
        check(Some((true, "Published")), &Outcome::Idle, &good, None);
        let note = event(None, &failed("TimedOut"), &bad).unwrap().note;
        assert_eq!(note.len(), 250);
    }
}
