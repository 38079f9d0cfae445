//! Decides how the clock is corrected and when the next round is due, without I/O.
//!
//! ```text
//!   Unset ── sample ──→ Set: slew ── offset above 128 ms ──→ Doubtful ── again ──→ step
//!     └── step if above 128 ms          ▲                        │
//!                                       └──────── a spike ───────┘
//! ```
//!
//! The first sample is trusted and steps the clock: a node with a wrong clock cannot do anything
//! useful (TLS fails), so there is nothing to lose. Later, a single large offset is more likely a bad
//! sample than a bad clock, so two samples must agree.

use std::collections::VecDeque;
use std::time::Duration;

use crate::packet::Sample;
use crate::{MILLISECOND, Nanos, SECOND, Time};

/// The largest offset that is slewed; a larger offset is stepped (RFC 5905, 11.3: STEPT). The kernel's
/// loop accepts at most 500 ms.
pub const SLEW_MAX: Nanos = 128 * MILLISECOND;
/// Shortest and longest interval between rounds as powers of two: 64 s to 1024 s.
const EXPONENT_MIN: u8 = 6;
const EXPONENT_MAX: u8 = 10;
/// Quick rounds after the first success, like ntpd's `iburst`.
const BURST: u8 = 3;
const BURST_PAUSE: Duration = Duration::from_secs(2);
/// Good rounds in a row after which the interval doubles.
const CALM_ROUNDS: u8 = 4;
/// Offset below which a round is good, and above which the interval is halved.
const CALM: Nanos = 4 * MILLISECOND;
const ROUGH: Nanos = 16 * MILLISECOND;
/// The number of earlier samples with which a new sample is compared (the clock filter of RFC 5905,
/// 10).
const SAMPLES_MAX: usize = 8;
/// The assumed drift of the clock since an old sample: PHI of RFC 5905, 15 µs per second.
const WANDER_PER_SECOND: Nanos = 15_000;
/// Failed rounds in a row after which a clock that was set counts as unsynchronised.
const FAILURES_MAX: u32 = 8;

/// A correction of the clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Add the offset at once.
    Step {
        /// The time to add.
        offset: Nanos,
        /// Largest possible error afterwards.
        error: Nanos,
    },
    /// Let the kernel apply the offset gradually.
    Slew {
        /// The time to add.
        offset: Nanos,
        /// Largest possible error.
        error: Nanos,
        /// The loop's time constant in the kernel's scale (0 to 10).
        constant: u8,
    },
}

/// The state of one clock.
#[derive(Debug)]
pub struct Discipline {
    state: State,
    next: Time,
    failures: u32,
}

#[derive(Debug)]
enum State {
    /// No sample has arrived yet.
    Unset,
    /// The clock is set, and samples keep it right.
    Set(Kept),
}

#[derive(Debug, Default)]
struct Kept {
    /// The remaining quick rounds of the first burst.
    burst: u8,
    /// The interval is two to this power, counted from [`EXPONENT_MIN`].
    slower: u8,
    calm: u8,
    /// An offset that needs a step, to be confirmed by the next round.
    doubtful: Option<Nanos>,
    /// Half of the delay and the time of earlier samples, newest last.
    delays: VecDeque<(Nanos, Time)>,
}

impl Discipline {
    /// Starts with a round at `now`.
    #[must_use]
    pub const fn new(now: Time) -> Self {
        Self { state: State::Unset, next: now, failures: 0 }
    }

    /// Returns the time of the next round.
    #[must_use]
    pub const fn next_round(&self) -> Time {
        self.next
    }

    /// True if the clock is set and was confirmed recently.
    #[must_use]
    pub const fn synchronised(&self) -> bool {
        matches!(self.state, State::Set(_)) && self.failures < FAILURES_MAX
    }

    /// Returns the number of failed rounds since the last good one.
    #[must_use]
    pub const fn failures(&self) -> u32 {
        self.failures
    }

    /// Ends a round without a credible sample. The next round follows after 1, 2, 4 … 64 s, or after
    /// the usual interval once the clock is set.
    pub fn round_failed(&mut self, now: Time) {
        self.next = now
            + match &self.state {
                State::Unset => Duration::from_secs(1 << self.failures.min(6)),
                State::Set(kept) => kept.interval(),
            };
        self.failures = self.failures.saturating_add(1);
    }

    /// Ends a round with its sample.
    pub fn round_succeeded(&mut self, now: Time, sample: Sample) -> Option<Action> {
        self.failures = 0;
        let action = match &mut self.state {
            State::Unset => {
                let mut kept = Kept { burst: BURST, ..Kept::default() };
                let action = kept.correct(sample);
                kept.remember(now, sample);
                self.state = State::Set(kept);
                Some(action)
            }
            State::Set(kept) => kept.judge(now, sample),
        };
        if let State::Set(kept) = &mut self.state {
            self.next = now + kept.pause();
        }
        action
    }
}

impl Kept {
    fn interval(&self) -> Duration {
        Duration::from_secs(1 << (EXPONENT_MIN + self.slower))
    }

    /// Returns the time until the next round, which is short while an offset is doubtful.
    fn pause(&mut self) -> Duration {
        if self.doubtful.is_some() {
            return BURST_PAUSE;
        }
        match self.burst.checked_sub(1) {
            Some(left) => {
                self.burst = left;
                BURST_PAUSE
            }
            None => self.interval(),
        }
    }

    fn judge(&mut self, now: Time, sample: Sample) -> Option<Action> {
        if sample.offset.abs() > SLEW_MAX {
            let agrees =
                |earlier: Nanos| earlier.saturating_sub(sample.offset).saturating_abs() <= SLEW_MAX;
            if !self.doubtful.is_some_and(agrees) {
                self.doubtful = Some(sample.offset);
                return None;
            }
            *self = Self { burst: BURST, ..Self::default() };
            return Some(self.correct(sample));
        }
        self.doubtful = None;
        let worth = self.is_best(now, sample);
        self.remember(now, sample);
        worth.then(|| {
            self.adapt(sample);
            self.correct(sample)
        })
    }

    fn correct(&self, sample: Sample) -> Action {
        let Sample { offset, distance: error, .. } = sample;
        if offset.abs() > SLEW_MAX {
            return Action::Step { offset, error };
        }
        // The kernel's constant is the interval's exponent minus 4 (SHIFT_PLL in linux/timex.h).
        Action::Slew { offset, error, constant: EXPONENT_MIN + self.slower - 4 }
    }

    /// True if no recent sample is better, after allowing for the clock's drift since that sample. A
    /// long delay usually comes from a queue in one direction, and half of that delay distorts the
    /// offset.
    fn is_best(&self, now: Time, sample: Sample) -> bool {
        self.delays.iter().all(|(half, then)| {
            let age =
                i64::try_from(now.saturating_sub(*then).as_secs()).unwrap_or(i64::MAX / SECOND);
            sample.delay / 2 <= half + MILLISECOND / 2 + age.saturating_mul(WANDER_PER_SECOND)
        })
    }

    fn remember(&mut self, now: Time, sample: Sample) {
        self.delays.push_back((sample.delay / 2, now));
        if self.delays.len() > SAMPLES_MAX {
            self.delays.pop_front();
        }
    }

    /// Makes rounds less frequent while the clock runs well.
    fn adapt(&mut self, sample: Sample) {
        match sample.offset.abs() {
            ..CALM if self.burst == 0 => self.calm += 1,
            ROUGH.. => {
                self.calm = 0;
                self.slower = self.slower.saturating_sub(1);
            }
            _ => self.calm = 0,
        }
        if self.calm == CALM_ROUNDS {
            self.calm = 0;
            self.slower = (self.slower + 1).min(EXPONENT_MAX - EXPONENT_MIN);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Action, Discipline, SLEW_MAX};
    use crate::packet::Sample;
    use crate::{MILLISECOND, Nanos, SECOND, Time};
    use proptest::prelude::*;
    use std::time::Duration;

    fn sample(offset: Nanos, delay: Nanos) -> Sample {
        Sample { offset, delay, distance: delay, stratum: 2 }
    }

    fn seconds(seconds: u64) -> Time {
        Duration::from_secs(seconds)
    }

    /// Ends the next round with a sample; returns the action, and the pause after it in seconds.
    fn round(discipline: &mut Discipline, offset: Nanos, delay: Nanos) -> (Option<Action>, u64) {
        let now = discipline.next_round();
        let action = discipline.round_succeeded(now, sample(offset, delay));
        (action, discipline.next_round().saturating_sub(now).as_secs())
    }

    fn steps(action: Option<Action>) -> Option<Nanos> {
        match action {
            Some(Action::Step { offset, .. }) => Some(offset),
            _ => None,
        }
    }

    #[test]
    fn the_first_sample_steps_a_wrong_clock_and_slews_a_good_one() {
        for (offset, step) in [
            (56 * 365 * 86_400 * SECOND, true),
            (-SLEW_MAX - 1, true),
            (SLEW_MAX, false),
            (0, false),
        ] {
            let mut discipline = Discipline::new(seconds(1));
            assert!(!discipline.synchronised());
            let (action, pause) = round(&mut discipline, offset, MILLISECOND);
            assert_eq!((steps(action).is_some(), pause), (step, 2), "{offset}");
            assert!(action.is_some() && discipline.synchronised());
        }
    }

    #[test]
    fn without_a_reply_rounds_follow_soon_and_then_less_often() {
        let mut discipline = Discipline::new(seconds(0));
        let mut pauses = Vec::new();
        for _ in 0..9 {
            let now = discipline.next_round();
            discipline.round_failed(now);
            pauses.push(discipline.next_round().saturating_sub(now).as_secs());
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 64, 64, 64]);
    }

    #[test]
    fn after_the_burst_rounds_take_64_seconds_and_with_a_calm_clock_1024() {
        let mut discipline = Discipline::new(seconds(0));
        let pauses: Vec<u64> = (0..40).map(|_| round(&mut discipline, 0, MILLISECOND).1).collect();
        assert_eq!(pauses[..5], [2, 2, 2, 64, 64]);
        assert_eq!(pauses[39], 1024);
        let (action, pause) = round(&mut discipline, 20 * MILLISECOND, MILLISECOND);
        assert_eq!(pause, 512, "a rough round");
        assert!(matches!(action, Some(Action::Slew { constant: 5, .. })));
    }

    #[test]
    fn a_later_step_needs_two_rounds_that_agree() {
        let mut discipline = Discipline::new(seconds(0));
        round(&mut discipline, 0, MILLISECOND);
        assert_eq!(round(&mut discipline, 3 * SECOND, MILLISECOND), (None, 2));
        assert_eq!(
            round(&mut discipline, -3 * SECOND, MILLISECOND),
            (None, 2),
            "they do not agree"
        );
        let (action, _) = round(&mut discipline, -3 * SECOND + MILLISECOND, MILLISECOND);
        assert_eq!(steps(action), Some(-3 * SECOND + MILLISECOND));

        assert_eq!(round(&mut discipline, 3 * SECOND, MILLISECOND).0, None);
        assert!(
            matches!(round(&mut discipline, 0, MILLISECOND).0, Some(Action::Slew { .. })),
            "a spike"
        );
        assert_eq!(round(&mut discipline, 3 * SECOND, MILLISECOND).0, None);
    }

    #[test]
    fn a_sample_that_was_delayed_on_the_way_is_not_used() {
        let mut discipline = Discipline::new(seconds(0));
        round(&mut discipline, 0, 10 * MILLISECOND);
        assert_eq!(round(&mut discipline, 40 * MILLISECOND, 90 * MILLISECOND).0, None);
        assert!(round(&mut discipline, MILLISECOND, 10 * MILLISECOND).0.is_some());
        // A permanently longer path is eventually accepted.
        assert!((0..20).any(|_| round(&mut discipline, MILLISECOND, 30 * MILLISECOND).0.is_some()));
    }

    #[test]
    fn a_clock_that_no_server_confirms_is_no_longer_synchronised() {
        let mut discipline = Discipline::new(seconds(0));
        round(&mut discipline, 0, MILLISECOND);
        for _ in 0..8 {
            assert!(discipline.synchronised());
            discipline.round_failed(discipline.next_round());
        }
        assert!(!discipline.synchronised());
        round(&mut discipline, 0, MILLISECOND);
        assert!(discipline.synchronised());
    }

    proptest! {
        #[test]
        fn every_history_slews_within_the_limit_and_keeps_the_interval_bounds(rounds in prop::collection::vec((any::<bool>(), -SECOND..SECOND, 0..SECOND), 0..200)) {
            let mut discipline = Discipline::new(seconds(0));
            for (answered, offset, delay) in rounds {
                let now = discipline.next_round();
                if answered {
                    if let Some(Action::Slew { offset, constant, .. }) = discipline.round_succeeded(now, sample(offset, delay)) {
                        prop_assert!(offset.abs() <= SLEW_MAX && (2..=6).contains(&constant));
                    }
                } else {
                    discipline.round_failed(now);
                }
                let pause = discipline.next_round().saturating_sub(now);
                prop_assert!((seconds(1)..=seconds(1024)).contains(&pause));
            }
        }
    }
}
