//! The machine's real-time clock (`rtc(4)`), set to the system's time at a shutdown, always in UTC.

use std::fs::File;
use std::os::fd::AsRawFd;

use kiln_base::calendar::Civil;

/// `RTC_SET_TIME` of include/uapi/linux/rtc.h.
const SET_TIME: libc::c_ulong = 0x4024_700a;

/// The first plausible year. A system clock before it was never set, because this program is newer.
const YEAR_MIN: i64 = 2026;

/// The last plausible year: most clocks have two digits for it.
const YEAR_MAX: i64 = 2099;

/// True if a time in seconds since 1970 is in a plausible year.
#[must_use]
pub fn is_plausible(seconds: u64) -> bool {
    let time = Civil::from_seconds(i64::try_from(seconds).unwrap_or(i64::MAX));
    (YEAR_MIN..=YEAR_MAX).contains(&time.year)
}

/// `struct rtc_time`: second, minute, hour, day of the month, month from 0, year from 1900, and
/// three fields that the kernel does not read.
type RtcTime = [libc::c_int; 9];

/// Sets the clock if the system's time is plausible. A missing clock, or one that rejects the time,
/// is not an error. Called by a helper, because a clock can hang.
pub fn set_from_system() {
    let now = Civil::now();
    if !(YEAR_MIN..=YEAR_MAX).contains(&now.year) {
        return;
    }
    let Ok(clock) = File::open("/dev/rtc0") else { return };
    let time = rtc_time(&now);
    // SAFETY: the kernel reads a struct rtc_time, which is nine ints.
    unsafe { libc::ioctl(clock.as_raw_fd(), SET_TIME as _, time.as_ptr()) };
}

fn rtc_time(time: &Civil) -> RtcTime {
    let Civil { year, month, day, hour, minute, second, .. } = *time;
    [second, minute, hour, day, month - 1, year - 1900, 0, 0, 0]
        .map(|field| libc::c_int::try_from(field).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use kiln_base::calendar::Civil;

    use super::{is_plausible, rtc_time};

    #[test]
    fn only_years_that_a_clock_can_have_are_plausible() {
        for (seconds, expected) in [
            (0, false),
            (1_767_225_599, false),
            (1_767_225_600, true),
            (4_102_444_799, true),
            (4_102_444_800, false),
            (u64::MAX, false),
        ] {
            assert_eq!(is_plausible(seconds), expected, "{seconds}");
        }
    }

    #[test]
    fn months_count_from_0_and_years_from_1900() {
        for (seconds, expected) in [
            (0, [0, 0, 0, 1, 0, 70]),
            (951_782_400, [0, 0, 0, 29, 1, 100]),
            (1_767_225_599, [59, 59, 23, 31, 11, 125]),
            (1_795_272_862, [22, 54, 14, 21, 10, 126]),
            (1_835_395_200, [0, 0, 0, 29, 1, 128]),
            (1_835_481_600, [0, 0, 0, 1, 2, 128]),
            (4_102_444_799, [59, 59, 23, 31, 11, 199]),
        ] {
            assert_eq!(rtc_time(&Civil::from_seconds(seconds))[..6], expected, "{seconds}");
        }
    }
}
