//! Times in logs: microseconds since 1970 as text and back, in UTC, without a time zone's database.
//!
//! The calendar is the proleptic Gregorian one; a leap second does not exist, as in POSIX time.

use rustix::time::{ClockId, clock_gettime};

/// A moment on both clocks.
///
/// The wall clock may be set at any time (a machine without a battery starts in 1970), so order
/// within a boot comes from the other one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stamp {
    /// Microseconds since 1970, as the wall clock had it.
    pub real: i64,
    /// Microseconds since the kernel's start.
    pub monotonic: u64,
}

impl Stamp {
    /// Now.
    #[must_use]
    pub fn now() -> Self {
        let real = clock_gettime(ClockId::Realtime);
        let monotonic = clock_gettime(ClockId::Monotonic);
        let monotonic = monotonic.tv_sec * 1_000_000 + monotonic.tv_nsec / 1000;
        Self {
            real: real.tv_sec * 1_000_000 + real.tv_nsec / 1000,
            monotonic: u64::try_from(monotonic).unwrap_or_default(),
        }
    }

    /// The moment of the same boot that the monotonic clock had as `monotonic`, provided that the
    /// wall clock was not set in between.
    #[must_use]
    pub fn at(self, monotonic: u64) -> Self {
        let ago = i64::try_from(self.monotonic).unwrap_or_default()
            - i64::try_from(monotonic).unwrap_or_default();
        Self { real: self.real - ago, monotonic }
    }
}

const DAY: i64 = 86_400_000_000;

/// A date and a time of day in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Civil {
    /// From 0 to 9999: what four digits can say. Later and earlier times are cut to these.
    pub year: i64,
    /// From 1.
    pub month: i64,
    /// From 1.
    pub day: i64,
    /// From 0 to 23.
    pub hour: i64,
    /// From 0 to 59.
    pub minute: i64,
    /// From 0 to 59.
    pub second: i64,
    /// From 0 to 999,999.
    pub micros: i64,
}

impl Civil {
    /// The date of a moment, in microseconds since 1970.
    #[must_use]
    pub fn of(micros: i64) -> Self {
        let (first, last) = (Self::date(0, 1, 1).micros(), Self::date(9999, 12, 31).micros());
        let micros = micros.clamp(first, last + DAY - 1);
        let (days, rest) = (micros.div_euclid(DAY), micros.rem_euclid(DAY));
        let (year, month, day) = civil_from_days(days);
        let second = rest / 1_000_000;
        Self {
            year,
            month,
            day,
            hour: second / 3600,
            minute: second / 60 % 60,
            second: second % 60,
            micros: rest % 1_000_000,
        }
    }

    /// Midnight of a date.
    #[must_use]
    pub const fn date(year: i64, month: i64, day: i64) -> Self {
        Self { year, month, day, hour: 0, minute: 0, second: 0, micros: 0 }
    }

    /// Microseconds since 1970.
    #[must_use]
    pub fn micros(&self) -> i64 {
        let seconds = self.hour * 3600 + self.minute * 60 + self.second;
        days_from_civil(self.year, self.month, self.day) * DAY + seconds * 1_000_000 + self.micros
    }

    /// The same, unless a field is out of its range (a 31st of April included).
    #[must_use]
    pub fn checked(&self) -> Option<i64> {
        let micros = self.micros();
        (Self::of(micros) == *self).then_some(micros)
    }

    /// RFC 3339 with six digits after the point and `Z`: always [`RFC3339`] bytes.
    #[must_use]
    pub fn rfc3339(&self) -> String {
        let Self { year, month, day, hour, minute, second, micros } = self;
        format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}Z")
    }

    /// Reads what [`Self::rfc3339`] writes, and nothing else.
    #[must_use]
    pub fn parse_rfc3339(text: &[u8]) -> Option<i64> {
        let shape = b"0000-00-00T00:00:00.000000Z";
        let fits = |(at, like): (&u8, &u8)| match like {
            b'0' => at.is_ascii_digit(),
            _ => at == like,
        };
        if text.len() != RFC3339 || !text.iter().zip(shape).all(fits) {
            return None;
        }
        let number = |from: usize, to: usize| {
            text[from..to].iter().fold(0, |sum, digit| sum * 10 + i64::from(digit - b'0'))
        };
        let civil = Self {
            year: number(0, 4),
            month: number(5, 7),
            day: number(8, 10),
            hour: number(11, 13),
            minute: number(14, 16),
            second: number(17, 19),
            micros: number(20, 26),
        };
        civil.checked()
    }
}

/// Length of a time in a log line.
pub const RFC3339: usize = 27;

/// Days since 1970-01-01 by counting eras of 400 years, each of 146,097 days, from March on, so
/// that the leap day is a year's last.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    year.div_euclid(400) * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (era * 400 + year + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Civil, Stamp};

    #[test]
    fn known_moments_are_written_as_everybody_does() {
        for (micros, text) in [
            (0, "1970-01-01T00:00:00.000000Z"),
            (-1, "1969-12-31T23:59:59.999999Z"),
            (951_782_400_000_000, "2000-02-29T00:00:00.000000Z"),
            (1_795_272_180_123_456, "2026-11-21T14:43:00.123456Z"),
            (4_107_542_400_000_000, "2100-03-01T00:00:00.000000Z"),
            (i64::MAX, "9999-12-31T23:59:59.999999Z"),
            (i64::MIN, "0000-01-01T00:00:00.000000Z"),
        ] {
            assert_eq!(Civil::of(micros).rfc3339(), text);
        }
    }

    #[test]
    fn a_date_that_does_not_exist_is_none() {
        for text in [
            "2026-02-29T00:00:00.000000Z",
            "2026-13-01T00:00:00.000000Z",
            "2026-00-01T00:00:00.000000Z",
            "2026-01-01T24:00:00.000000Z",
            "2026-01-01T00:00:60.000000Z",
            "2026-01-01 00:00:00.000000Z",
            "2026-01-01T00:00:00.00000Z",
        ] {
            assert_eq!(Civil::parse_rfc3339(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn an_earlier_moment_of_the_same_boot_is_as_much_earlier_on_both_clocks() {
        let now = Stamp { real: 5_000, monotonic: 3_000 };
        assert_eq!(now.at(1_000), Stamp { real: 3_000, monotonic: 1_000 });
    }

    proptest! {
        #[test]
        fn what_is_written_is_what_is_read(micros in -62_167_219_200_000_000_i64..253_402_300_800_000_000) {
            let text = Civil::of(micros).rfc3339();
            prop_assert_eq!(Civil::parse_rfc3339(text.as_bytes()), Some(micros));
        }

        #[test]
        fn later_moments_have_later_texts(a in 0_i64..253_402_300_800_000_000, b in 0_i64..253_402_300_800_000_000) {
            prop_assert_eq!(a.cmp(&b), Civil::of(a).rfc3339().cmp(&Civil::of(b).rfc3339()));
        }

        #[test]
        fn any_bytes_are_read(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let _ = Civil::parse_rfc3339(&bytes);
        }
    }
}
