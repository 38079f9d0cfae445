//! The rules of an election by a Lease (`coordination.k8s.io`). Pure, with time as an argument.
//!
//! They are those of client-go's `leaderelection`, so that other programs can read the Lease. No clock
//! of another machine is compared: a holder counts as gone when its Lease has not changed for the
//! Lease's duration on this machine's clock.

use std::time::Duration;

/// The time for which a holder may be silent.
pub const LEASE: Duration = Duration::from_secs(15);

/// The time within which the holder must renew, shorter than [`LEASE`], so that it stops before
/// another one starts.
pub const RENEW_MAX: Duration = Duration::from_secs(10);

/// The time between two looks of a candidate at the Lease.
pub const LOOK: Duration = Duration::from_secs(2);

/// The time between two renewals, of which one may fail within [`RENEW_MAX`].
pub const RENEW: Duration = Duration::from_secs(4);

/// A Lease as it was read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Record {
    /// The version of the object.
    pub version: String,
    /// The holder; empty after it has given the Lease back.
    pub holder: String,
    /// The time for which the holder may be silent.
    pub duration: Duration,
    /// The number of changes of the holder.
    pub transitions: i32,
}

/// The next step of a candidate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Create the Lease.
    Create,
    /// Write the Lease with this number of transitions, in the version that was read.
    Write {
        /// The number of changes of the holder.
        transitions: i32,
        /// The version that must still be there.
        version: String,
    },
    /// Another one holds it.
    Wait,
}

/// A candidate, with what it has seen of the Lease.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// The name of the candidate, which no other one has.
    pub name: String,
    seen: Option<(Record, Duration)>,
}

impl Candidate {
    /// Creates a candidate.
    #[must_use]
    pub const fn new(name: String) -> Self {
        Self { name, seen: None }
    }

    /// Returns the holder that the last look has found; empty without one.
    #[must_use]
    pub fn holder(&self) -> &str {
        self.seen.as_ref().map_or("", |(record, _)| &record.holder)
    }

    /// Decides after a look at the Lease. `patience` is the time for which this candidate lets others go
    /// first when the Lease has become free.
    pub fn step(&mut self, found: Option<Record>, now: Duration, patience: Duration) -> Step {
        let Some(record) = found else { return Step::Create };
        let changed = self.seen.as_ref().is_none_or(|(seen, _)| *seen != record);
        if changed {
            self.seen = Some((record.clone(), now));
        }
        let since = self.seen.as_ref().map_or(now, |(_, since)| *since);
        let silence = now.saturating_sub(since);
        let is_free = if record.holder.is_empty() {
            silence >= patience
        } else {
            silence > record.duration + patience
        };
        if record.holder == self.name {
            return Step::Write { transitions: record.transitions, version: record.version };
        }
        if !is_free {
            return Step::Wait;
        }
        let transitions = record.transitions.saturating_add(1);
        Step::Write { transitions, version: record.version }
    }
}

#[cfg(test)]
mod tests {
    use super::{Candidate, LEASE, Record, Step};
    use std::time::Duration;

    const NONE: Duration = Duration::ZERO;

    const fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn record(version: u64, holder: &str) -> Record {
        let version = version.to_string();
        Record { version, holder: holder.to_owned(), duration: LEASE, transitions: 3 }
    }

    fn write(transitions: i32, version: u64) -> Step {
        Step::Write { transitions, version: version.to_string() }
    }

    #[test]
    fn a_missing_lease_is_created_and_an_own_one_renewed() {
        let mut me = Candidate::new("me".to_owned());
        assert_eq!(me.step(None, at(0), NONE), Step::Create);
        assert_eq!(me.step(Some(record(1, "me")), at(1), NONE), write(3, 1));
        assert_eq!(me.step(Some(record(2, "me")), at(100), NONE), write(3, 2));
    }

    #[test]
    fn a_silent_holder_is_replaced_and_a_busy_one_is_not() {
        let mut me = Candidate::new("me".to_owned());
        assert_eq!(me.step(Some(record(1, "other")), at(50), NONE), Step::Wait);
        assert_eq!(me.step(Some(record(1, "other")), at(65), NONE), Step::Wait);
        assert_eq!(me.step(Some(record(2, "other")), at(66), NONE), Step::Wait);
        assert_eq!(me.step(Some(record(2, "other")), at(81), NONE), Step::Wait);
        assert_eq!(me.step(Some(record(2, "other")), at(82), NONE), write(4, 2));
    }

    #[test]
    fn a_patient_candidate_lets_others_go_first() {
        let mut me = Candidate::new("me".to_owned());
        assert_eq!(me.step(Some(record(1, "other")), at(0), at(5)), Step::Wait);
        assert_eq!(me.holder(), "other");
        assert_eq!(me.step(Some(record(1, "other")), at(20), at(5)), Step::Wait);
        assert_eq!(me.step(Some(record(1, "other")), at(21), at(5)), write(4, 1));
        assert_eq!(me.step(Some(record(2, "")), at(30), at(5)), Step::Wait);
        assert_eq!(me.step(Some(record(2, "")), at(35), at(5)), write(4, 2));
        assert_eq!(me.step(None, at(36), at(5)), Step::Create);
    }

    #[test]
    fn a_lease_that_was_given_back_is_free_at_once() {
        let mut me = Candidate::new("me".to_owned());
        assert_eq!(me.step(Some(record(1, "other")), at(0), NONE), Step::Wait);
        assert_eq!(me.step(Some(record(2, "")), at(1), NONE), write(4, 2));
    }
}
