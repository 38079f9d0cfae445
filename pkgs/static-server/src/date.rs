//! The `Date` field: IMF-fixdate of RFC 9110 section 5.6.7 (`Sat, 21 Nov 2026 08:00:00 GMT`).

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

#[cfg(test)]
mod tests {
    use super::http_date;

    #[test]
    fn the_examples_of_the_rfc_are_written_the_same() {
        assert_eq!(http_date(784_111_777), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(http_date(0), "Thu, 01 Jan 1970 00:00:00 GMT");
    }
}
