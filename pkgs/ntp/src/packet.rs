//! One question to a server and the check of its answer (RFC 5905, 7.3; RFC 4330, 5).
//!
//! The question carries no time of ours: its transmit timestamp is a random number, which the
//! answer must repeat. Who cannot see our packets cannot forge an answer, and nobody learns our
//! clock. Our two times are taken from a clock that does not jump, so a clock in 1970 is no special case.

use std::fmt;
use std::time::Duration;

use crate::{MILLISECOND, Nanos, SECOND, Time};

/// Length of a packet without extensions, in bytes.
pub const LENGTH: usize = 48;
/// Version 4, mode 3 (client), leap indicator 0.
const CLIENT: u8 = 4 << 3 | 3;
const MODE_SERVER: u8 = 4;
/// The leap indicator of a server whose own clock is not set.
const UNSYNCHRONISED: u8 = 3;
/// A farther server is no better than no server (MAXDIST of RFC 5905, 11.2, with room for slow links).
const LONGEST_DISTANCE: Nanos = 3 * SECOND / 2;
/// How coarse a server's clock may be: more time at the server than we waited is nonsense otherwise.
const COARSE: Nanos = MILLISECOND;
/// From 1900 (NTP's era 0) to 1970, in seconds.
const TO_UNIX: i64 = 2_208_988_800;
/// Seconds in an era: 32 bits.
const ERA: i64 = 1 << 32;
/// 2026-01-01. This program is not older, so a timestamp before it belongs to the next era, which
/// begins in February 2036. Good until 2162.
const NOT_BEFORE: i64 = 1_767_225_600;

/// An open question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Question {
    /// The random number in place of our time; never 0.
    pub cookie: u64,
    /// When it was sent.
    pub sent: Time,
}

/// When an answer came, by both clocks at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reception {
    /// By the clock that does not jump.
    pub time: Time,
    /// By the clock that is to be set.
    pub clock: Nanos,
}

/// What an answer says about our clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// What must be added to our clock.
    pub offset: Nanos,
    /// Time on the way, there and back.
    pub delay: Nanos,
    /// The largest possible error of `offset`: half of the way to the reference clock, and what
    /// the servers on it admit (root distance of RFC 5905, 10).
    pub distance: Nanos,
    /// The server's distance from a reference clock, 1 to 15.
    pub stratum: u8,
}

/// Why an answer is no sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Not a server's packet, or not to our question: keep waiting for the right one.
    NotAnAnswer,
    /// Kiss-o'-death: the server asks for fewer questions (`RATE`).
    TooOften,
    /// Kiss-o'-death: the server does not want to be asked at all (`DENY`, `RSTR`).
    Denied,
    /// The server does not know the time.
    Unsynchronised,
    /// The server is too far from a reference clock, or from us.
    TooFar,
    /// The times contradict each other.
    Nonsense,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotAnAnswer => "not an answer to our question",
            Self::TooOften => "the server asks for fewer questions",
            Self::Denied => "the server does not want to be asked",
            Self::Unsynchronised => "the server does not know the time",
            Self::TooFar => "the server is too far from a reference clock",
            Self::Nonsense => "the server's times contradict each other",
        })
    }
}

impl Question {
    /// The packet.
    #[must_use]
    pub fn build(&self) -> [u8; LENGTH] {
        let mut packet = [0; LENGTH];
        packet[0] = CLIENT;
        packet[40..].copy_from_slice(&self.cookie.to_be_bytes());
        packet
    }

    /// Checks an answer.
    pub fn check(&self, answer: &[u8], received: Reception) -> Result<Sample, Refusal> {
        let answer: &[u8; LENGTH] = answer.first_chunk().ok_or(Refusal::NotAnAnswer)?;
        let (leap, version, mode) = (answer[0] >> 6, answer[0] >> 3 & 7, answer[0] & 7);
        if mode != MODE_SERVER || !(3..=4).contains(&version) || eight(answer, 24) != self.cookie {
            return Err(Refusal::NotAnAnswer);
        }
        let stratum = answer[1];
        match (stratum, leap) {
            (0, _) => return Err(kiss(answer)),
            (16.., _) | (_, UNSYNCHRONISED) => return Err(Refusal::Unsynchronised),
            _ => (),
        }
        let root = short(answer, 4) / 2 + short(answer, 8);
        if root > LONGEST_DISTANCE {
            return Err(Refusal::TooFar);
        }
        self.measure(eight(answer, 32), eight(answer, 40), root, stratum, received)
    }

    /// Offset and delay (RFC 5905, 8), with our side of the way measured by the clock that does
    /// not jump.
    fn measure(
        &self,
        server_received: u64,
        server_sent: u64,
        root: Nanos,
        stratum: u8,
        received: Reception,
    ) -> Result<Sample, Refusal> {
        let away = nanos(received.time.checked_sub(self.sent).ok_or(Refusal::Nonsense)?);
        let (came, left) = (unix(server_received), unix(server_sent));
        if server_received == 0 || server_sent == 0 || left < came || left - came > away + COARSE {
            return Err(Refusal::Nonsense);
        }
        let delay = (away - (left - came)).max(0);
        let distance = root + delay / 2;
        if distance > LONGEST_DISTANCE {
            return Err(Refusal::TooFar);
        }
        Ok(Sample { offset: left + delay / 2 - received.clock, delay, distance, stratum })
    }
}

/// The reason that stands in a kiss-o'-death's reference id (RFC 5905, 7.4).
fn kiss(answer: &[u8; LENGTH]) -> Refusal {
    match &answer[12..16] {
        b"RATE" => Refusal::TooOften,
        b"DENY" | b"RSTR" => Refusal::Denied,
        _ => Refusal::Unsynchronised,
    }
}

fn eight(packet: &[u8; LENGTH], at: usize) -> u64 {
    packet[at..].first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

/// A "short" of RFC 5905, 6: seconds in 16.16 bits.
fn short(packet: &[u8; LENGTH], at: usize) -> Nanos {
    let value = packet[at..].first_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes));
    (i64::from(value) * SECOND) >> 16
}

/// A timestamp of 32.32 bits, in the era that makes it not older than this program.
fn unix(timestamp: u64) -> Nanos {
    let seconds = i64::try_from(timestamp >> 32).unwrap_or(0) - TO_UNIX;
    let seconds = if seconds < NOT_BEFORE { seconds + ERA } else { seconds };
    let fraction = i64::try_from(((timestamp & 0xffff_ffff) * 1_000_000_000) >> 32).unwrap_or(0);
    seconds * SECOND + fraction
}

/// For durations that are far below 292 years.
fn nanos(duration: Duration) -> Nanos {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::{LENGTH, NOT_BEFORE, Question, Reception, Refusal, Sample, TO_UNIX, unix};
    use crate::{MILLISECOND, Nanos, SECOND};
    use proptest::prelude::*;
    use std::time::Duration;

    const QUESTION: Question =
        Question { cookie: 0x0123_4567_89ab_cdef, sent: Duration::from_secs(5) };
    /// 2026-11-21T08:00:00Z.
    const NOW: Nanos = 1_795_248_000 * SECOND;

    fn timestamp(time: Nanos) -> [u8; 8] {
        let seconds = (time.div_euclid(SECOND) + TO_UNIX).cast_unsigned() & 0xffff_ffff;
        let fraction = (time.rem_euclid(SECOND).cast_unsigned() << 32) / SECOND.cast_unsigned();
        (seconds << 32 | fraction).to_be_bytes()
    }

    /// A good answer that was 10 ms at a server whose clock shows `time` when it leaves.
    fn answer(time: Nanos) -> [u8; LENGTH] {
        let mut packet = [0; LENGTH];
        packet[..2].copy_from_slice(&[0x24, 2]);
        packet[10] = 0x10; // root dispersion: 0x1000 / 65536 s = 62.5 ms
        packet[24..32].copy_from_slice(&QUESTION.cookie.to_be_bytes());
        packet[32..40].copy_from_slice(&timestamp(time - 10 * MILLISECOND));
        packet[40..].copy_from_slice(&timestamp(time));
        packet
    }

    /// The answer comes 30 ms after the question.
    fn received(clock: Nanos) -> Reception {
        Reception { time: QUESTION.sent + Duration::from_millis(30), clock }
    }

    fn check(change: impl FnOnce(&mut [u8; LENGTH]), expected: Refusal) {
        let mut packet = answer(NOW);
        change(&mut packet);
        assert_eq!(QUESTION.check(&packet, received(NOW)), Err(expected));
    }

    #[test]
    fn offset_and_delay_are_those_of_rfc_5905() {
        let Sample { offset, delay, distance, stratum } =
            QUESTION.check(&answer(NOW), received(NOW - 3 * SECOND)).unwrap();
        let near = |value: Nanos, expected: Nanos| (value - expected).abs() < 1000;
        assert!(near(offset, 3 * SECOND + 10 * MILLISECOND), "{offset}");
        assert!(near(delay, 20 * MILLISECOND) && near(distance, 72_500_000), "{delay} {distance}");
        assert_eq!(stratum, 2);
    }

    #[test]
    fn a_clock_in_1970_learns_the_time_before_and_after_2036() {
        for time in [
            NOW,
            2_085_978_495 * SECOND,
            2_085_978_496 * SECOND + 5 * MILLISECOND,
            4_000_000_000 * SECOND,
        ] {
            let sample = QUESTION.check(&answer(time), received(0)).unwrap();
            assert!((sample.offset - time).abs() < 20 * MILLISECOND);
        }
    }

    #[test]
    fn only_a_servers_answer_to_the_question_is_read() {
        check(|packet| packet[0] = 0x23, Refusal::NotAnAnswer); // a client's
        check(|packet| packet[0] = 0x25, Refusal::NotAnAnswer); // a broadcast
        check(|packet| packet[0] = 0x14, Refusal::NotAnAnswer); // version 2
        check(|packet| packet[31] ^= 1, Refusal::NotAnAnswer); // another cookie
        assert_eq!(QUESTION.check(&answer(NOW)[..47], received(NOW)), Err(Refusal::NotAnAnswer));
    }

    #[test]
    fn a_server_without_the_time_is_refused() {
        check(|packet| packet[0] |= 0xc0, Refusal::Unsynchronised);
        check(|packet| packet[1] = 16, Refusal::Unsynchronised);
        check(|packet| packet[8] = 1, Refusal::TooFar); // dispersion 256 s
        check(|packet| packet[40..].fill(0), Refusal::Nonsense);
        check(|packet| packet[32..40].fill(0), Refusal::Nonsense);
        check(|packet| packet[32..40].copy_from_slice(&timestamp(NOW + SECOND)), Refusal::Nonsense);
        check(|packet| packet[32..40].copy_from_slice(&timestamp(NOW - SECOND)), Refusal::Nonsense);
    }

    #[test]
    fn a_kiss_of_death_says_what_to_do() {
        let kiss = |code: &[u8; 4], expected| {
            check(
                |packet| {
                    packet[1] = 0;
                    packet[12..16].copy_from_slice(code);
                },
                expected,
            );
        };
        kiss(b"RATE", Refusal::TooOften);
        kiss(b"DENY", Refusal::Denied);
        kiss(b"RSTR", Refusal::Denied);
        kiss(b"INIT", Refusal::Unsynchronised);
    }

    proptest! {
        #[test]
        fn no_answer_makes_it_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..60), clock: u32) {
            if let Some(cookie) = bytes.get_mut(24..32) {
                cookie.copy_from_slice(&QUESTION.cookie.to_be_bytes());
                bytes[0] = 0x24;
            }
            let _ = QUESTION.check(&bytes, received(i64::from(clock) * SECOND));
        }

        #[test]
        fn every_timestamp_is_in_the_era_that_we_live_in(timestamp: u64) {
            let seconds = unix(timestamp) / SECOND;
            prop_assert!((NOT_BEFORE..NOT_BEFORE + (1 << 32)).contains(&seconds));
        }
    }
}
