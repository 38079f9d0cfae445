//! A request to a server and the check of its reply (RFC 5905, 7.3; RFC 4330, 5).
//!
//! The request does not reveal the local clock: its transmit timestamp is a random number, which the
//! reply must repeat. An attacker that cannot see the packets cannot forge a reply. Both local times
//! come from a clock that does not jump, so a wall clock that starts in 1970 needs no special case.

use std::fmt;
use std::time::Duration;

use crate::{MILLISECOND, Nanos, SECOND, Time};

/// The length of a packet without extensions, in bytes.
pub const LENGTH: usize = 48;
/// Version 4, mode 3 (client), leap indicator 0.
const CLIENT: u8 = 4 << 3 | 3;
const MODE_SERVER: u8 = 4;
/// The leap indicator of a server whose clock is not set.
const UNSYNCHRONISED: u8 = 3;
/// The largest usable distance (MAXDIST of RFC 5905, 11.2, with a margin for slow links).
const DISTANCE_MAX: Nanos = 3 * SECOND / 2;
/// The allowed error of a server's clock: apart from this, the time at the server cannot exceed the
/// whole wait for the reply.
const COARSE: Nanos = MILLISECOND;
/// From 1900 (NTP's era 0) to 1970, in seconds.
const TO_UNIX: i64 = 2_208_988_800;
/// Seconds in an era: 32 bits.
const ERA: i64 = 1 << 32;
/// 2026-01-01. The program is newer than that, so an earlier timestamp belongs to the next era, which
/// begins in February 2036. This works until 2162.
const NOT_BEFORE: i64 = 1_767_225_600;

/// An open request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request {
    /// The random number in place of the local time; never 0.
    pub cookie: u64,
    /// The time at which the request was sent.
    pub sent: Time,
}

/// The time at which a reply arrived, by both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reception {
    /// The clock that does not jump.
    pub time: Time,
    /// The wall clock, which the program sets.
    pub clock: Nanos,
}

/// A measurement of the wall clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// The time that must be added to the clock.
    pub offset: Nanos,
    /// The time that the packets were on the way, in both directions together.
    pub delay: Nanos,
    /// The largest possible error of `offset`: half of the delay to the reference clock, and the
    /// errors that the servers on the way state (root distance of RFC 5905, 10).
    pub distance: Nanos,
    /// The server's distance from a reference clock, 1 to 15.
    pub stratum: u8,
}

/// The reason why a packet is not a usable sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Not from a server, or not a reply to the request. The right packet may still arrive.
    NotAReply,
    /// Kiss-o'-death: the server wants fewer requests (`RATE`).
    TooOften,
    /// Kiss-o'-death: the server wants no requests at all (`DENY`, `RSTR`).
    Denied,
    /// The server does not know the time.
    Unsynchronised,
    /// The server is too far from a reference clock, or the way to the server is too long.
    TooFar,
    /// The times contradict each other.
    Contradiction,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotAReply => "not a reply to the request",
            Self::TooOften => "the server wants fewer requests",
            Self::Denied => "the server refuses requests",
            Self::Unsynchronised => "the server does not know the time",
            Self::TooFar => "the server is too far from a reference clock",
            Self::Contradiction => "the server's times contradict each other",
        })
    }
}

impl Request {
    /// Builds the packet.
    #[must_use]
    pub fn build(&self) -> [u8; LENGTH] {
        let mut packet = [0; LENGTH];
        packet[0] = CLIENT;
        packet[40..].copy_from_slice(&self.cookie.to_be_bytes());
        packet
    }

    /// Checks a packet that arrived, and measures the clock if it is the reply.
    pub fn check(&self, reply: &[u8], received: Reception) -> Result<Sample, Refusal> {
        let reply: &[u8; LENGTH] = reply.first_chunk().ok_or(Refusal::NotAReply)?;
        let (leap, version, mode) = (reply[0] >> 6, reply[0] >> 3 & 7, reply[0] & 7);
        if mode != MODE_SERVER || !(3..=4).contains(&version) || eight(reply, 24) != self.cookie {
            return Err(Refusal::NotAReply);
        }
        let stratum = reply[1];
        match (stratum, leap) {
            (0, _) => return Err(kiss(reply)),
            (16.., _) | (_, UNSYNCHRONISED) => return Err(Refusal::Unsynchronised),
            _ => (),
        }
        let root = short(reply, 4) / 2 + short(reply, 8);
        if root > DISTANCE_MAX {
            return Err(Refusal::TooFar);
        }
        self.measure(eight(reply, 32), eight(reply, 40), root, stratum, received)
    }

    /// Computes offset and delay (RFC 5905, 8); the local times come from the clock that does not jump.
    fn measure(
        &self,
        server_received: u64,
        server_sent: u64,
        root: Nanos,
        stratum: u8,
        received: Reception,
    ) -> Result<Sample, Refusal> {
        let away = nanos(received.time.checked_sub(self.sent).ok_or(Refusal::Contradiction)?);
        let (came, left) = (unix(server_received), unix(server_sent));
        if server_received == 0 || server_sent == 0 || left < came || left - came > away + COARSE {
            return Err(Refusal::Contradiction);
        }
        let delay = (away - (left - came)).max(0);
        let distance = root + delay / 2;
        if distance > DISTANCE_MAX {
            return Err(Refusal::TooFar);
        }
        Ok(Sample { offset: left + delay / 2 - received.clock, delay, distance, stratum })
    }
}

/// Returns the reason in the reference id of a kiss-o'-death packet (RFC 5905, 7.4).
fn kiss(reply: &[u8; LENGTH]) -> Refusal {
    match &reply[12..16] {
        b"RATE" => Refusal::TooOften,
        b"DENY" | b"RSTR" => Refusal::Denied,
        _ => Refusal::Unsynchronised,
    }
}

fn eight(packet: &[u8; LENGTH], at: usize) -> u64 {
    packet[at..].first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

/// Reads a "short" of RFC 5905, 6: seconds in 16.16 bits.
fn short(packet: &[u8; LENGTH], at: usize) -> Nanos {
    let value = packet[at..].first_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes));
    (i64::from(value) * SECOND) >> 16
}

/// Converts a timestamp of 32.32 bits, and chooses the era in which it is not before [`NOT_BEFORE`].
fn unix(timestamp: u64) -> Nanos {
    let seconds = i64::try_from(timestamp >> 32).unwrap_or(0) - TO_UNIX;
    let seconds = if seconds < NOT_BEFORE { seconds + ERA } else { seconds };
    let fraction = i64::try_from(((timestamp & 0xffff_ffff) * 1_000_000_000) >> 32).unwrap_or(0);
    seconds * SECOND + fraction
}

/// Converts a duration, which is far below 292 years here.
fn nanos(duration: Duration) -> Nanos {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::{
        DISTANCE_MAX, LENGTH, NOT_BEFORE, Reception, Refusal, Request, Sample, TO_UNIX, unix,
    };
    use crate::{MILLISECOND, Nanos, SECOND};
    use proptest::prelude::*;
    use std::time::Duration;

    const REQUEST: Request =
        Request { cookie: 0x0123_4567_89ab_cdef, sent: Duration::from_secs(5) };
    /// 2026-11-21T08:00:00Z.
    const NOW: Nanos = 1_795_248_000 * SECOND;

    fn timestamp(time: Nanos) -> [u8; 8] {
        let seconds = (time.div_euclid(SECOND) + TO_UNIX).cast_unsigned() & 0xffff_ffff;
        let fraction = (time.rem_euclid(SECOND).cast_unsigned() << 32) / SECOND.cast_unsigned();
        (seconds << 32 | fraction).to_be_bytes()
    }

    /// Builds a valid reply that leaves a server at `time` by the server's clock, 10 ms after the request
    /// arrived.
    fn reply(time: Nanos) -> [u8; LENGTH] {
        let mut packet = [0; LENGTH];
        packet[..2].copy_from_slice(&[0x24, 2]);
        packet[10] = 0x10; // root dispersion: 0x1000 / 65536 s = 62.5 ms
        packet[24..32].copy_from_slice(&REQUEST.cookie.to_be_bytes());
        packet[32..40].copy_from_slice(&timestamp(time - 10 * MILLISECOND));
        packet[40..].copy_from_slice(&timestamp(time));
        packet
    }

    /// The reply arrives 30 ms after the request.
    fn received(clock: Nanos) -> Reception {
        Reception { time: REQUEST.sent + Duration::from_millis(30), clock }
    }

    fn check(change: impl FnOnce(&mut [u8; LENGTH]), expected: Refusal) {
        let mut packet = reply(NOW);
        change(&mut packet);
        assert_eq!(REQUEST.check(&packet, received(NOW)), Err(expected));
    }

    #[test]
    fn offset_and_delay_are_those_of_rfc_5905() {
        let Sample { offset, delay, distance, stratum } =
            REQUEST.check(&reply(NOW), received(NOW - 3 * SECOND)).unwrap();
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
            let sample = REQUEST.check(&reply(time), received(0)).unwrap();
            assert!((sample.offset - time).abs() < 20 * MILLISECOND);
        }
    }

    #[test]
    fn only_a_servers_reply_to_the_request_is_read() {
        check(|packet| packet[0] = 0x23, Refusal::NotAReply); // a client's
        check(|packet| packet[0] = 0x25, Refusal::NotAReply); // a broadcast
        check(|packet| packet[0] = 0x14, Refusal::NotAReply); // version 2
        check(|packet| packet[31] ^= 1, Refusal::NotAReply); // another cookie
        assert_eq!(REQUEST.check(&reply(NOW)[..47], received(NOW)), Err(Refusal::NotAReply));
    }

    #[test]
    fn a_server_without_the_time_is_refused() {
        check(|packet| packet[0] |= 0xc0, Refusal::Unsynchronised);
        check(|packet| packet[1] = 16, Refusal::Unsynchronised);
        check(|packet| packet[8] = 1, Refusal::TooFar); // dispersion 256 s
        check(|packet| packet[40..].fill(0), Refusal::Contradiction);
        check(|packet| packet[32..40].fill(0), Refusal::Contradiction);
        check(
            |packet| packet[32..40].copy_from_slice(&timestamp(NOW + SECOND)),
            Refusal::Contradiction,
        );
        check(
            |packet| packet[32..40].copy_from_slice(&timestamp(NOW - SECOND)),
            Refusal::Contradiction,
        );
    }

    #[test]
    fn a_kiss_of_death_is_read_by_its_code() {
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
        fn every_reply_gives_an_error_or_a_sample_within_the_limits(
            mut bytes in prop::collection::vec(any::<u8>(), 0..60),
            clock: u32,
        ) {
            if let Some(cookie) = bytes.get_mut(24..32) {
                cookie.copy_from_slice(&REQUEST.cookie.to_be_bytes());
                bytes[0] = 0x24;
            }
            if let Ok(sample) = REQUEST.check(&bytes, received(i64::from(clock) * SECOND)) {
                prop_assert!((0..=30 * MILLISECOND).contains(&sample.delay));
                prop_assert!((sample.delay / 2..=DISTANCE_MAX).contains(&sample.distance));
                prop_assert!((1..16).contains(&sample.stratum));
            }
        }

        #[test]
        fn the_measured_offset_is_the_error_of_the_clock(error in -1_000_000 * SECOND..1_000_000 * SECOND) {
            let sample = REQUEST.check(&reply(NOW), received(NOW + 10 * MILLISECOND - error)).unwrap();
            prop_assert!((sample.offset - error).abs() < 1000, "{}", sample.offset);
        }

        #[test]
        fn every_timestamp_is_in_the_current_era(timestamp: u64) {
            let seconds = unix(timestamp) / SECOND;
            prop_assert!((NOT_BEFORE..NOT_BEFORE + (1 << 32)).contains(&seconds));
        }
    }
}
