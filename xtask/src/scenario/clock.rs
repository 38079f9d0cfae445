//! A machine's clock that is wrong.

use kiln_base::calendar::{Civil, Precision};

const DAY_SECONDS: i64 = 24 * 60 * 60;

/// Returns QEMU's arguments for a clock that is ahead by so many days, or behind.
pub fn arguments(days: i64) -> Vec<String> {
    if days == 0 {
        return Vec::new();
    }
    let now = Civil::now().seconds().unwrap_or_default();
    let then = Civil::from_seconds(now + days * DAY_SECONDS);
    let then = then.rfc3339(Precision::Seconds).to_string();
    vec!["-rtc".to_owned(), format!("base={}", then.trim_end_matches('Z'))]
}
