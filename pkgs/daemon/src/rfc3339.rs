//! UTC time stamps as RFC 3339 writes them (`2026-11-21T08:00:00.123Z`), and the calendar below.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A moment in UTC, printed with milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Utc {
    /// Date and time of day.
    pub civil: Civil,
    /// 0 to 999.
    pub millis: u32,
}

/// A date and time of day in UTC; leap seconds do not exist here, as in POSIX time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Civil {
    /// For example 2026.
    pub year: u64,
    /// 1 to 12.
    pub month: u8,
    /// 1 to 31.
    pub day: u8,
    /// 0 to 23.
    pub hour: u8,
    /// 0 to 59.
    pub minute: u8,
    /// 0 to 59.
    pub second: u8,
    /// 0 is Sunday.
    pub weekday: u8,
}

impl Civil {
    /// From POSIX time, in seconds since 1970. Proleptic Gregorian calendar.
    #[must_use]
    pub fn from_posix(seconds: u64) -> Self {
        let (days, of_day) = (seconds / 86_400, seconds % 86_400);
        let (year, month, day) = date(days);
        Self {
            year,
            month,
            day,
            hour: small(of_day / 3600),
            minute: small(of_day / 60 % 60),
            second: small(of_day % 60),
            weekday: small((days + 4) % 7), // 1970-01-01 was a Thursday
        }
    }
}

/// Year, month and day from days since 1970.
///
/// Counts in eras of 400 years (146,097 days) that begin on 1 March, so that the leap day is the
/// last day of a year and month lengths follow one linear rule.
fn date(days: u64) -> (u64, u8, u8) {
    let days = days + 719_468; // from 0000-03-01 to 1970-01-01
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let (month, carry) = if from_march < 10 { (from_march + 3, 0) } else { (from_march - 9, 1) };
    (era * 400 + year_of_era + carry, small(month), small(day))
}

/// For values that the arithmetic above keeps below 100.
fn small(value: u64) -> u8 {
    u8::try_from(value).unwrap_or(u8::MAX)
}

impl Utc {
    /// The time that the system's clock shows; 1970 for a clock before it.
    #[must_use]
    pub fn now() -> Self {
        Self::since_epoch(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
    }

    /// From the time since 1970.
    #[must_use]
    pub fn since_epoch(time: Duration) -> Self {
        Self { civil: Civil::from_posix(time.as_secs()), millis: time.subsec_millis() }
    }
}

impl fmt::Display for Utc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Civil { year, month, day, hour, minute, second, .. } = self.civil;
        let millis = self.millis;
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
    }
}

#[cfg(test)]
mod tests {
    use super::{Civil, Utc};
    use proptest::prelude::*;
    use std::time::Duration;

    fn check(seconds: u64, expected: &str) {
        assert_eq!(
            Utc::since_epoch(Duration::from_millis(seconds * 1000 + 7)).to_string(),
            expected
        );
    }

    #[test]
    fn known_moments_are_written_as_rfc_3339_does() {
        check(0, "1970-01-01T00:00:00.007Z");
        check(951_827_696, "2000-02-29T12:34:56.007Z");
        check(1_709_251_199, "2024-02-29T23:59:59.007Z");
        check(4_107_542_400, "2100-03-01T00:00:00.007Z");
        check(1_795_219_200, "2026-11-21T00:00:00.007Z");
    }

    #[test]
    fn the_weekday_is_right() {
        assert_eq!(Civil::from_posix(0).weekday, 4);
        assert_eq!(Civil::from_posix(1_795_219_200).weekday, 6); // a Saturday
    }

    proptest! {
        #[test]
        fn the_next_day_is_the_next_date(day in 0_u64..1_000_000) {
            let (a, b) = (Civil::from_posix(day * 86_400), Civil::from_posix((day + 1) * 86_400));
            let next_in_month = (b.year, b.month, b.day) == (a.year, a.month, a.day + 1);
            let next_month = (b.year, b.month, b.day) == (a.year, a.month + 1, 1) && a.day >= 28;
            let next_year = (b.year, b.month, b.day) == (a.year + 1, 1, 1) && (a.month, a.day) == (12, 31);
            prop_assert!(next_in_month || next_month || next_year);
            prop_assert!((1..=31).contains(&a.day) && (1..=12).contains(&a.month));
        }
    }
}
