//! Dates of HTTP: IMF-fixdate of RFC 9110 section 5.6.7 (`Sat, 21 Nov 2026 08:00:00 GMT`), and the
//! two older forms that a recipient must take.

use kiln_daemon::rfc3339::Civil;

const DAYS: [&str; 7] = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];
const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// Writes a moment, in seconds since 1970, as HTTP does.
#[must_use]
pub fn http_date(posix: u64) -> String {
    let Civil { year, month, day, hour, minute, second, weekday } = Civil::from_posix(posix);
    let weekday = DAYS[usize::from(weekday)];
    let month = MONTHS[usize::from(month) - 1];
    format!("{weekday}, {day:02} {month} {year:04} {hour:02}:{minute:02}:{second:02} GMT")
}

/// Reads a date in one of the three forms; none if it is not one, or before 1970.
#[must_use]
pub fn parse_http_date(text: &[u8]) -> Option<u64> {
    let text = str::from_utf8(text).ok()?;
    let words: Vec<&str> = text.split(' ').filter(|word| !word.is_empty()).collect();
    let (day, month, year, time) = match words.as_slice() {
        [weekday, day, month, year, time, "GMT"] if weekday.ends_with(',') => {
            (number(day, 2)?, *month, number(year, 4)?, *time)
        }
        [weekday, date, time, "GMT"] if weekday.ends_with(',') => {
            let mut parts = date.split('-');
            let day = number(parts.next()?, 2)?;
            let (month, year) = (parts.next()?, number(parts.next()?, 2)?);
            // Two digits: 70 to 99 are of the last century; servers of that time are gone.
            (day, month, if year < 70 { 2000 + year } else { 1900 + year }, *time)
        }
        [_, month, day, time, year] => (number(day, 2)?, *month, number(year, 4)?, *time),
        _ => return None,
    };
    let month = MONTHS.iter().position(|name| *name == month)? as u64 + 1;
    let mut clock = time.split(':').map(|part| number(part, 2));
    let (hour, minute, second) = (clock.next()??, clock.next()??, clock.next()??);
    let valid = clock.next().is_none() && hour < 24 && minute < 60 && second <= 60;
    let days = days(year, month, day)?;
    valid.then_some(days * 86_400 + hour * 3600 + minute * 60 + second)
}

/// Digits, at most that many.
fn number(text: &str, most: usize) -> Option<u64> {
    let digits = !text.is_empty() && text.len() <= most && text.bytes().all(|b| b.is_ascii_digit());
    if digits { text.parse().ok() } else { None }
}

/// Days since 1970 of a date from then on. Counts years from March, so that the leap day is last.
fn days(year: u64, month: u64, day: u64) -> Option<u64> {
    if year < 1970 || !(1..=31).contains(&day) {
        return None;
    }
    let (year, from_march) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let of_years = 365 * year + year / 4 - year / 100 + year / 400;
    (of_years + (153 * from_march + 2) / 5 + day - 1).checked_sub(719_468)
}

#[cfg(test)]
mod tests {
    use super::{http_date, parse_http_date};
    use proptest::prelude::*;

    #[test]
    fn the_examples_of_the_rfc_are_written_the_same() {
        assert_eq!(http_date(784_111_777), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(http_date(0), "Thu, 01 Jan 1970 00:00:00 GMT");
    }

    #[test]
    fn the_three_forms_are_read() {
        for text in [
            "Sun, 06 Nov 1994 08:49:37 GMT",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun Nov  6 08:49:37 1994",
        ] {
            assert_eq!(parse_http_date(text.as_bytes()), Some(784_111_777), "{text}");
        }
        for text in [
            "",
            "0",
            "Sun, 06 Nov 1994 08:49:37",
            "Sun, 06 Nov 1994 08:49:37 UTC",
            "Sun, 06 Nov 1994 24:00:00 GMT",
            "Sun, 06 nov 1994 08:49:37 GMT",
            "Sun, 06 Nov 1969 08:49:37 GMT",
            "Sun, +6 Nov 1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 08:49 GMT",
            "\u{e4}",
        ] {
            assert_eq!(parse_http_date(text.as_bytes()), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(posix in 0_u64..253_402_300_800) {
            prop_assert_eq!(parse_http_date(http_date(posix).as_bytes()), Some(posix));
        }
    }
}
