//! Dates in UTC and their text form (RFC 3339), without a time zone database.
//!
//! The calendar is the proleptic Gregorian one. There are no leap seconds, as in POSIX time.

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

const SECONDS_PER_DAY: i64 = 86_400;
const MICROS_PER_SECOND: i64 = 1_000_000;

/// Seconds since 1970 of 0000-01-01T00:00:00Z, the first moment that RFC 3339 can express.
const FIRST: i64 = -62_167_219_200;

/// Seconds since 1970 of 9999-12-31T23:59:59Z, the last second that RFC 3339 can express.
const LAST: i64 = 253_402_300_799;

/// A date and a time of day in UTC.
///
/// The fields can hold values out of range; [`Civil::seconds`] and [`Civil::micros`] check them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Civil {
    /// 0 to 9999, the years that RFC 3339 can express.
    pub year: i64,
    /// 1 to 12.
    pub month: i64,
    /// 1 to 31.
    pub day: i64,
    /// 0 to 23.
    pub hour: i64,
    /// 0 to 59.
    pub minute: i64,
    /// 0 to 59.
    pub second: i64,
    /// Microseconds, 0 to 999,999.
    pub micros: i64,
}

/// The number of decimal places of the seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precision {
    /// No point and no digits: `2026-11-21T08:00:00Z`.
    Seconds,
    /// Three digits: `2026-11-21T08:00:00.123Z`.
    Millis,
    /// Six digits: `2026-11-21T08:00:00.123456Z`.
    Micros,
}

/// A moment that is displayed in the form of RFC 3339.
#[derive(Debug, Clone, Copy)]
pub struct Rfc3339(Civil, Precision);

impl Civil {
    /// Returns midnight of a date.
    #[must_use]
    pub const fn midnight(year: i64, month: i64, day: i64) -> Self {
        Self { year, month, day, hour: 0, minute: 0, second: 0, micros: 0 }
    }

    /// Converts seconds since 1970. Moments before year 0 or after year 9999 become the first or
    /// last moment of this range.
    #[must_use]
    pub fn from_seconds(seconds: i64) -> Self {
        Self::at(seconds.clamp(FIRST, LAST), 0)
    }

    /// Converts microseconds since 1970, limited to the same range.
    #[must_use]
    pub fn from_micros(micros: i64) -> Self {
        let first = FIRST * MICROS_PER_SECOND;
        let last = LAST * MICROS_PER_SECOND + MICROS_PER_SECOND - 1;
        let micros = micros.clamp(first, last);
        Self::at(micros.div_euclid(MICROS_PER_SECOND), micros.rem_euclid(MICROS_PER_SECOND))
    }

    /// Reads the system's clock. A clock before 1970 reads as 1970.
    #[must_use]
    pub fn now() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self::from_micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
    }

    fn at(seconds: i64, micros: i64) -> Self {
        let (days, rest) =
            (seconds.div_euclid(SECONDS_PER_DAY), seconds.rem_euclid(SECONDS_PER_DAY));
        let (year, month, day) = civil_from_days(days);
        let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
        Self { year, month, day, hour, minute, second, micros }
    }

    /// Returns whole seconds since 1970; `None` if a field is out of range or the date does not
    /// exist (30 February).
    #[must_use]
    pub fn seconds(&self) -> Option<i64> {
        let Self { year, month, day, hour, minute, second, micros } = *self;
        let valid = (0..=9999).contains(&year)
            && (1..=12).contains(&month)
            && (1..=days_of_month(year, month)).contains(&day)
            && (0..24).contains(&hour)
            && (0..60).contains(&minute)
            && (0..60).contains(&second)
            && (0..MICROS_PER_SECOND).contains(&micros);
        let of_day = || hour * 3600 + minute * 60 + second;
        valid.then(|| days_from_civil(year, month, day) * SECONDS_PER_DAY + of_day())
    }

    /// Returns microseconds since 1970; `None` if a field is out of range or the date does not
    /// exist.
    #[must_use]
    pub fn micros(&self) -> Option<i64> {
        Some(self.seconds()? * MICROS_PER_SECOND + self.micros)
    }

    /// Returns a value that is displayed as RFC 3339, in UTC, with `Z`.
    #[must_use]
    pub const fn rfc3339(self, precision: Precision) -> Rfc3339 {
        Rfc3339(self, precision)
    }

    /// Parses the output of [`Self::rfc3339`] with the same precision. Everything else is refused,
    /// such as other precisions, offsets, lower-case letters, and dates that do not exist.
    #[must_use]
    pub fn parse_rfc3339(text: &[u8], precision: Precision) -> Option<Self> {
        let shape = b"0000-00-00T00:00:00.000000";
        let (last, head) = text.split_last()?;
        let fits = |(byte, like): (&u8, &u8)| match like {
            b'0' => byte.is_ascii_digit(),
            _ => byte == like,
        };
        let whole = text.len() == precision.text_len() && *last == b'Z';
        if !whole || !head.iter().zip(shape).all(fits) {
            return None;
        }
        let number = |digits: &[u8]| {
            digits.iter().fold(0, |number, digit| number * 10 + i64::from(digit - b'0'))
        };
        let civil = Self {
            year: number(&head[..4]),
            month: number(&head[5..7]),
            day: number(&head[8..10]),
            hour: number(&head[11..13]),
            minute: number(&head[14..16]),
            second: number(&head[17..19]),
            micros: precision.micros(number(head.get(20..).unwrap_or_default())),
        };
        civil.seconds().map(|_| civil)
    }
}

impl Precision {
    /// Returns the length of the text in bytes.
    #[must_use]
    pub const fn text_len(self) -> usize {
        match self {
            Self::Seconds => 20,
            Self::Millis => 24,
            Self::Micros => 27,
        }
    }

    const fn micros(self, fraction: i64) -> i64 {
        match self {
            Self::Seconds => 0,
            Self::Millis => fraction * 1000,
            Self::Micros => fraction,
        }
    }
}

impl fmt::Display for Rfc3339 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Civil { year, month, day, hour, minute, second, micros } = self.0;
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")?;
        match self.1 {
            Precision::Seconds => f.write_str("Z"),
            Precision::Millis => write!(f, ".{:03}Z", micros / 1000),
            Precision::Micros => write!(f, ".{micros:06}Z"),
        }
    }
}

const fn days_of_month(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Returns the days from 1970-01-01 to a date.
///
/// Years are counted in eras of 400 years (146,097 days) that begin on 1 March, so that the leap
/// day is the last day of a year and the lengths of months follow one linear rule.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, year) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year * 365 + year / 4 - year / 100 + day_of_year - 719_468
}

/// Returns year, month and day; the inverse of [`days_from_civil`].
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year + year / 4 - year / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    (era * 400 + year + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{
        Civil, FIRST, LAST, MICROS_PER_SECOND, Precision, civil_from_days, days_from_civil,
        days_of_month,
    };

    const PRECISIONS: [Precision; 3] = [Precision::Seconds, Precision::Millis, Precision::Micros];

    #[test]
    fn known_moments_are_written_as_in_rfc_3339() {
        for (micros, text) in [
            (0, "1970-01-01T00:00:00.000000Z"),
            (-1, "1969-12-31T23:59:59.999999Z"),
            (951_827_696_007_000, "2000-02-29T12:34:56.007000Z"),
            (1_795_272_180_123_456, "2026-11-21T14:43:00.123456Z"),
            (4_107_542_400_000_000, "2100-03-01T00:00:00.000000Z"),
            (i64::MAX, "9999-12-31T23:59:59.999999Z"),
            (i64::MIN, "0000-01-01T00:00:00.000000Z"),
        ] {
            assert_eq!(Civil::from_micros(micros).rfc3339(Precision::Micros).to_string(), text);
        }
        let civil = Civil::from_micros(1_795_272_180_123_999);
        assert_eq!(civil.rfc3339(Precision::Seconds).to_string(), "2026-11-21T14:43:00Z");
        assert_eq!(civil.rfc3339(Precision::Millis).to_string(), "2026-11-21T14:43:00.123Z");
    }

    #[test]
    fn the_ends_of_the_range_are_the_years_0_and_9999() {
        assert_eq!(Civil::midnight(0, 1, 1).seconds(), Some(FIRST));
        assert_eq!(Civil::midnight(9999, 12, 31).seconds(), Some(LAST - 86_399));
        assert_eq!(Civil::from_seconds(i64::MIN), Civil::midnight(0, 1, 1));
        assert_eq!(Civil::from_seconds(i64::MAX).seconds(), Some(LAST));
    }

    #[test]
    fn dates_that_do_not_exist_and_other_forms_are_refused() {
        for text in [
            "",
            "Z",
            "2026-02-29T00:00:00.000000Z",
            "2026-04-31T00:00:00.000000Z",
            "2026-13-01T00:00:00.000000Z",
            "2026-00-01T00:00:00.000000Z",
            "2026-01-00T00:00:00.000000Z",
            "2026-01-01T24:00:00.000000Z",
            "2026-01-01T00:60:00.000000Z",
            "2026-01-01T00:00:60.000000Z",
            "2026-01-01 00:00:00.000000Z",
            "2026-01-01t00:00:00.000000Z",
            "2026-01-01T00:00:00.00000+Z",
            "2026-01-01T00:00:00.0000000",
            "+026-01-01T00:00:00.000000Z",
        ] {
            for precision in PRECISIONS {
                assert_eq!(Civil::parse_rfc3339(text.as_bytes(), precision), None, "{text}");
            }
        }
    }

    #[test]
    fn fields_out_of_range_have_no_moment() {
        let good = Civil::midnight(2026, 1, 1);
        assert!(good.micros().is_some());
        for bad in [
            Civil { year: -1, ..good },
            Civil { year: 10_000, ..good },
            Civil { year: i64::MAX, ..good },
            Civil { month: i64::MIN, ..good },
            Civil { day: 32, ..good },
            Civil { hour: -1, ..good },
            Civil { minute: i64::MAX, ..good },
            Civil { second: 60, ..good },
            Civil { micros: 1_000_000, ..good },
        ] {
            assert_eq!(bad.micros(), None, "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn a_written_moment_is_read_again(
            seconds in FIRST..=LAST,
            micros in 0..MICROS_PER_SECOND,
        ) {
            let civil = Civil::from_micros(seconds * MICROS_PER_SECOND + micros);
            for (precision, kept) in PRECISIONS.into_iter().zip([0, micros / 1000 * 1000, micros]) {
                let text = civil.rfc3339(precision).to_string();
                prop_assert_eq!(text.len(), precision.text_len());
                let read = Civil::parse_rfc3339(text.as_bytes(), precision);
                prop_assert_eq!(read, Some(Civil { micros: kept, ..civil }));
                let expected = seconds * MICROS_PER_SECOND + kept;
                prop_assert_eq!(read.and_then(|read| read.micros()), Some(expected));
            }
        }

        #[test]
        fn later_moments_have_later_texts(a in FIRST..=LAST, b in FIRST..=LAST) {
            let text = |seconds| Civil::from_seconds(seconds).rfc3339(Precision::Seconds).to_string();
            prop_assert_eq!(a.cmp(&b), text(a).cmp(&text(b)));
        }

        #[test]
        fn the_next_day_is_the_next_date_of_a_calendar_on_the_wall(day in -719_468_i64..2_932_896) {
            let (year, month, date) = civil_from_days(day);
            let next = if date < days_of_month(year, month) {
                (year, month, date + 1)
            } else if month < 12 {
                (year, month + 1, 1)
            } else {
                (year + 1, 1, 1)
            };
            prop_assert_eq!(civil_from_days(day + 1), next);
            prop_assert_eq!(days_from_civil(year, month, date), day);
        }

        #[test]
        fn only_a_text_that_could_have_been_written_is_read(
            text in "[0-9]{4}-[0-2][0-9]-[0-4][0-9][Tt ][0-2][0-9]:[0-6][0-9]:[0-6][0-9](\\.([0-9]{3}){0,3})?Z?",
        ) {
            for precision in PRECISIONS {
                let read = Civil::parse_rfc3339(text.as_bytes(), precision);
                if let Some(civil) = read {
                    prop_assert_eq!(civil.rfc3339(precision).to_string(), text.as_str());
                }
            }
        }

        #[test]
        fn no_bytes_make_the_parser_panic(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            for precision in PRECISIONS {
                let read = Civil::parse_rfc3339(&bytes, precision);
                prop_assert!(read.is_none_or(|civil| civil.micros().is_some()));
            }
        }
    }
}
