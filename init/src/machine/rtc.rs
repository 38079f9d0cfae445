//! The machine's clock, set from the system's at a shutdown (`rtc(4)`), always in UTC.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::time::{SystemTime, UNIX_EPOCH};

/// `RTC_SET_TIME` of include/uapi/linux/rtc.h.
const SET_TIME: libc::c_ulong = 0x4024_700a;

/// 2026-01-01: this program is younger, so a system clock before it was never set.
const EARLIEST: u64 = 1_767_225_600;

/// 2100-01-01: most clocks have two digits for the year.
const LATEST: u64 = 4_102_444_800;

/// `struct rtc_time`: second, minute, hour, day of the month, month from 0, year from 1900, and
/// three fields that the kernel does not read.
type RtcTime = [libc::c_int; 9];

/// Sets the clock if the system's time is plausible; in a helper. A machine without a clock, or
/// with one that does not want to, is fine.
pub fn set_from_system() {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    if !(EARLIEST..LATEST).contains(&since) {
        return;
    }
    let Ok(clock) = File::open("/dev/rtc0") else { return };
    let time = broken_down(since);
    // SAFETY: the kernel reads a struct rtc_time, which is nine ints.
    unsafe { libc::ioctl(clock.as_raw_fd(), SET_TIME as _, time.as_ptr()) };
}

/// Seconds since 1970 in the proleptic Gregorian calendar.
#[allow(clippy::cast_possible_truncation, reason = "all fields are below 200 before 2100")]
fn broken_down(seconds: u64) -> RtcTime {
    let (mut days, rest) = (seconds / 86_400, seconds % 86_400);
    let mut year = 1970;
    while days >= days_in(year) {
        days -= days_in(year);
        year += 1;
    }
    let lengths = [31, days_in(year) - 337, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 0;
    while month < 11 && days >= lengths[month] {
        days -= lengths[month];
        month += 1;
    }
    let fields = [rest % 60, rest / 60 % 60, rest / 3600, days + 1, month as u64, year - 1900];
    let mut time = [0; 9];
    for (field, value) in time.iter_mut().zip(fields) {
        *field = value as libc::c_int;
    }
    time
}

const fn days_in(year: u64) -> u64 {
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    if leap { 366 } else { 365 }
}

#[cfg(test)]
mod tests {
    use super::broken_down;

    #[test]
    fn dates_are_right_around_leap_days_and_ends_of_years() {
        for (seconds, expected) in [
            (0, [0, 0, 0, 1, 0, 70]),
            (951_782_400, [0, 0, 0, 29, 1, 100]),
            (1_767_225_599, [59, 59, 23, 31, 11, 125]),
            (1_795_272_862, [22, 54, 14, 21, 10, 126]),
            (1_835_395_200, [0, 0, 0, 29, 1, 128]),
            (1_835_481_600, [0, 0, 0, 1, 2, 128]),
            (4_102_444_799, [59, 59, 23, 31, 11, 199]),
        ] {
            assert_eq!(broken_down(seconds)[..6], expected, "{seconds}");
        }
    }
}
