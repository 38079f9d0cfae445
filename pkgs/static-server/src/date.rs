//! HTTP dates (RFC 9110 section 5.6.7): `Sat, 21 Nov 2026 08:00:00 GMT`, and the two older forms
//! that a recipient must accept.

use std::time::{Duration, UNIX_EPOCH};

/// Seconds since 1970 of the last moment that a date can express, in year 9999.
const SECONDS_MAX: u64 = 253_402_300_799;

/// Formats seconds since 1970 as HTTP does.
#[must_use]
pub fn http_date(posix: u64) -> String {
    // A file may have any time, and the crate panics after year 9999.
    httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(posix.min(SECONDS_MAX)))
}

/// Parses a date in one of the three forms into seconds since 1970.
///
/// Returns `None` for an invalid date, a wrong weekday, and a date before 1970.
#[must_use]
pub fn parse_http_date(text: &[u8]) -> Option<u64> {
    let time = httpdate::parse_http_date(str::from_utf8(text).ok()?).ok()?;
    time.duration_since(UNIX_EPOCH).ok().map(|since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::{SECONDS_MAX, http_date, parse_http_date};
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
            "Mon, 06 Nov 1994 08:49:37 GMT",
            "\u{e4}",
        ] {
            assert_eq!(parse_http_date(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn a_time_after_year_9999_is_the_end_of_that_year() {
        assert_eq!(http_date(u64::MAX), "Fri, 31 Dec 9999 23:59:59 GMT");
    }

    proptest! {
        #[test]
        fn a_written_date_is_read_again(posix in 0..=SECONDS_MAX) {
            prop_assert_eq!(parse_http_date(http_date(posix).as_bytes()), Some(posix));
        }
    }
}
