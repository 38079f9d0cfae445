//! What to do with the clock, and when to ask again. No I/O, no clock.
//!
//! ```text
//!   Unset ── sample ──→ Set: slew ── offset above 128 ms ──→ Doubtful ── again ──→ step
//!     └── step if above 128 ms          ▲                        │
//!                                       └────── it was a spike ──┘
//! ```
//!
//! The first sample is trusted and steps the clock: a node with a wrong clock can do nothing (TLS
//! fails), so there is nothing to protect. Later a single large offset is more likely a bad sample
//! than a bad clock, so two must agree.

use std::collections::VecDeque;
use std::time::Duration;

use crate::packet::Sample;
use crate::{MILLISECOND, Nanos, SECOND, Time};

/// Above it the clock is stepped, below it slewed (RFC 5905, 11.3: STEPT). The kernel's loop takes
/// at most 500 ms.
pub const STEP: Nanos = 128 * MILLISECOND;
/// Shortest and longest interval between rounds as powers of two: 64 s to 1024 s.
const SHORTEST: u8 = 6;
const LONGEST: u8 = 10;
/// Rounds after the first success that follow quickly, as ntpd's `iburst` does.
const BURST: u8 = 3;
const BURST_PAUSE: Duration = Duration::from_secs(2);
/// Successive good rounds after which the interval doubles.
const CALM_ROUNDS: u8 = 4;
/// Offset below which a round is good, and above which the interval is halved.
const CALM: Nanos = 4 * MILLISECOND;
const ROUGH: Nanos = 16 * MILLISECOND;
/// Samples that a new one is compared with (the clock filter of RFC 5905, 10).
const KEPT: usize = 8;
/// How fast an old sample loses worth: PHI of RFC 5905, 15 µs per second.
const WANDER_PER_SECOND: Nanos = 15_000;
/// Failed rounds in a row before a clock that was set counts as no longer kept.
const PATIENCE: u32 = 8;

/// What to do with the clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Add `offset` at once.
    Step {
        /// To be added.
        offset: Nanos,
        /// Largest possible error afterwards.
        error: Nanos,
    },
    /// Let the kernel work `offset` off smoothly.
    Slew {
        /// To be added.
        offset: Nanos,
        /// Largest possible error.
        error: Nanos,
        /// The loop's time constant as the kernel counts it (0 to 10).
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
    /// No sample so far.
    Unset,
    /// Kept by samples.
    Set(Kept),
}

#[derive(Debug, Default)]
struct Kept {
    /// Rounds of the first burst that are still to come.
    burst: u8,
    /// The interval is two to this power, counted from [`SHORTEST`].
    slower: u8,
    calm: u8,
    /// An offset that asks for a step, to be confirmed by the next round.
    doubtful: Option<Nanos>,
    /// Newest last: half of the delay, and when.
    delays: VecDeque<(Nanos, Time)>,
}

impl Discipline {
    /// Begins with a round at `now`.
    #[must_use]
    pub const fn new(now: Time) -> Self {
        Self { state: State::Unset, next: now, failures: 0 }
    }

    /// When the next round of questions is due.
    #[must_use]
    pub const fn next_round(&self) -> Time {
        self.next
    }

    /// Whether the clock is set, and was confirmed not too long ago.
    #[must_use]
    pub const fn synchronised(&self) -> bool {
        matches!(self.state, State::Set(_)) && self.failures < PATIENCE
    }

    /// Failed rounds since the last good one.
    #[must_use]
    pub const fn failures(&self) -> u32 {
        self.failures
    }

    /// A round without a believable sample: again after 1, 2, 4 … 64 s, or after the usual interval.
    pub fn round_failed(&mut self, now: Time) {
        self.next = now
            + match &self.state {
                State::Unset => Duration::from_secs(1 << self.failures.min(6)),
                State::Set(kept) => kept.interval(),
            };
        self.failures = self.failures.saturating_add(1);
    }

    /// A round's sample.
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
        Duration::from_secs(1 << (SHORTEST + self.slower))
    }

    /// The time until the next round; a doubt is cleared quickly.
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
        if sample.offset.abs() > STEP {
            let agrees =
                |earlier: Nanos| earlier.saturating_sub(sample.offset).saturating_abs() <= STEP;
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
        if offset.abs() > STEP {
            return Action::Step { offset, error };
        }
        // The kernel's constant is 4 below the interval's exponent (SHIFT_PLL in linux/timex.h).
        Action::Slew { offset, error, constant: SHORTEST + self.slower - 4 }
    }

    /// A long delay is mostly a queue on one of the two ways, and half of it goes into the offset:
    /// the newest sample is used if none of the last ones is better, counting what the clock may
    /// have wandered since.
    fn is_best(&self, now: Time, sample: Sample) -> bool {
        self.delays.iter().all(|(half, then)| {
            let age =
                i64::try_from(now.saturating_sub(*then).as_secs()).unwrap_or(i64::MAX / SECOND);
            sample.delay / 2 <= half + MILLISECOND / 2 + age.saturating_mul(WANDER_PER_SECOND)
        })
    }

    fn remember(&mut self, now: Time, sample: Sample) {
        self.delays.push_back((sample.delay / 2, now));
        if self.delays.len() > KEPT {
            self.delays.pop_front();
        }
    }

    /// Asks less often while the clock runs well.
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
            self.slower = (self.slower + 1).min(LONGEST - SHORTEST);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Action, Discipline, STEP};
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

    /// Hands in a sample at the next round; the action, and the pause after it in seconds.
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
        for (offset, step) in
            [(56 * 365 * 86_400 * SECOND, true), (-STEP - 1, true), (STEP, false), (0, false)]
        {
            let mut discipline = Discipline::new(seconds(1));
            assert!(!discipline.synchronised());
            let (action, pause) = round(&mut discipline, offset, MILLISECOND);
            assert_eq!((steps(action).is_some(), pause), (step, 2), "{offset}");
            assert!(action.is_some() && discipline.synchronised());
        }
    }

    #[test]
    fn without_an_answer_it_asks_again_soon_and_then_less_often() {
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
    fn a_burst_is_followed_by_64_seconds_and_calm_makes_it_1024() {
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
    fn a_sample_that_was_held_up_on_the_way_is_not_used() {
        let mut discipline = Discipline::new(seconds(0));
        round(&mut discipline, 0, 10 * MILLISECOND);
        assert_eq!(round(&mut discipline, 40 * MILLISECOND, 90 * MILLISECOND).0, None);
        assert!(round(&mut discipline, MILLISECOND, 10 * MILLISECOND).0.is_some());
        // A way that has become longer for good is accepted in the end.
        assert!((0..20).any(|_| round(&mut discipline, MILLISECOND, 30 * MILLISECOND).0.is_some()));
    }

    #[test]
    fn a_clock_that_nobody_confirms_is_no_longer_synchronised() {
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
        fn no_history_breaks_it(rounds in prop::collection::vec((any::<bool>(), -SECOND..SECOND, 0..SECOND), 0..200)) {
            let mut discipline = Discipline::new(seconds(0));
            for (answered, offset, delay) in rounds {
                let now = discipline.next_round();
                if answered {
                    if let Some(Action::Slew { offset, constant, .. }) = discipline.round_succeeded(now, sample(offset, delay)) {
                        prop_assert!(offset.abs() <= STEP && (2..=6).contains(&constant));
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
