//! Durations as Go writes them, such as `1h30m`, because kup6s-pages reads them with Go.

use std::time::Duration;

/// The shortest time between two looks at a repository; a shorter wish is raised to it.
pub const INTERVAL_MIN: Duration = Duration::from_secs(10);

/// The longest time between two looks at a repository; a longer wish is lowered to it.
pub const INTERVAL_MAX: Duration = Duration::from_hours(24 * 7);

/// The interval of a site that names none, or none that can be read.
const INTERVAL: Duration = Duration::from_mins(5);

/// Returns the time between two looks at a repository.
#[must_use]
pub fn interval(text: &str) -> Duration {
    parse(text).unwrap_or(INTERVAL).clamp(INTERVAL_MIN, INTERVAL_MAX)
}

/// The shortest and the longest life of a preview, and the one of a site that names none.
const LIFETIME_MIN: Duration = Duration::from_secs(10);
const LIFETIME_MAX: Duration = Duration::from_hours(24 * 90);
const LIFETIME: Duration = Duration::from_hours(24 * 7);

/// Returns the time for which a preview lives after its last commit.
#[must_use]
pub fn lifetime(text: &str) -> Duration {
    parse(text).unwrap_or(LIFETIME).clamp(LIFETIME_MIN, LIFETIME_MAX)
}

/// Reads a duration in the syntax of Go's `time.ParseDuration`, without a sign.
fn parse(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut sum = 0.0;
    while !rest.is_empty() {
        let end = rest.find(|char: char| !char.is_ascii_digit() && char != '.')?;
        let number: f64 = rest[..end].parse().ok()?;
        let unit = rest[end..].find(|char: char| char.is_ascii_digit() || char == '.');
        let unit = &rest[end..unit.map_or(rest.len(), |length| end + length)];
        sum += number * seconds(unit)?;
        rest = &rest[end + unit.len()..];
    }
    (!text.is_empty()).then(|| Duration::try_from_secs_f64(sum).ok()).flatten()
}

fn seconds(unit: &str) -> Option<f64> {
    Some(match unit {
        "ns" => 1e-9,
        "us" | "µs" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::{INTERVAL_MAX, INTERVAL_MIN, interval, parse};
    use proptest::prelude::*;
    use std::time::Duration;

    #[test]
    fn durations_are_read_as_go_reads_them() {
        for (text, seconds) in [("5m", 300), ("1h30m", 5400), ("90s", 90), ("1.5h", 5400)] {
            assert_eq!(parse(text), Some(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "5", "m", "5 m", "-5m", "5d", "1.2.3s", "99999999999999999999h", "5é"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn an_interval_is_within_its_bounds() {
        assert_eq!(interval("soon"), Duration::from_mins(5));
        assert_eq!(interval("1ns"), INTERVAL_MIN);
        assert_eq!(interval("9999h"), INTERVAL_MAX);
    }

    proptest! {
        #[test]
        fn no_text_panics(text in ".{0,40}") {
            let interval = interval(&text);
            prop_assert!(interval >= INTERVAL_MIN && interval <= INTERVAL_MAX);
        }
    }
}
