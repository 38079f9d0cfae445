//! The processor's counter, which shows how long the machine ran before the kernel.
//!
//! x86's time-stamp counter is 0 at reset (Intel SDM volume 3, "Time-Stamp Counter"), and so is
//! Arm's system counter; systemd-boot takes both for the time since power-on. Its speed is measured
//! between two samples some seconds apart. If a hypervisor did not reset the counter, the result is
//! usually implausible and is discarded. After a kexec or a warm restart the counter includes the
//! time since the previous power-on.

/// The longest plausible time for firmware: large servers test their memory for minutes.
const FIRMWARE_MAX: u64 = 15 * 60 * 1_000_000;

/// The shortest distance of two samples in microseconds. Closer samples give no reliable speed.
const DISTANCE_MIN: u64 = 1_000_000;

/// The counter and the kernel's clock at the same moment.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    /// The counter's value.
    pub ticks: u64,
    /// Microseconds since the start of the kernel's clock.
    pub micros: u64,
}

/// Returns the counter's value, or 0 on a processor without a known counter.
#[must_use]
pub fn ticks() -> u64 {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: every x86-64 processor has the instruction, and this process is allowed to use
    // it.
    return unsafe { std::arch::x86_64::_rdtsc() };
    #[cfg(target_arch = "aarch64")]
    {
        let ticks: u64;
        // SAFETY: Linux lets programs read the virtual counter, and nothing else is
        // touched.
        unsafe { std::arch::asm!("mrs {}, cntvct_el0", out(reg) ticks, options(nomem, nostack)) };
        return ticks;
    }
    #[allow(unreachable_code, reason = "only for other processors")]
    0
}

/// Returns the microseconds between the counter's zero and the kernel's, or `None` if implausible.
#[must_use]
pub fn before_kernel(first: Sample, later: Sample) -> Option<u64> {
    let micros = later.micros.checked_sub(first.micros).filter(|&micros| micros >= DISTANCE_MIN)?;
    let ticks = later.ticks.checked_sub(first.ticks).filter(|&ticks| ticks > 0)?;
    let since_reset = u128::from(first.ticks) * u128::from(micros) / u128::from(ticks);
    let before = u64::try_from(since_reset).ok()?.checked_sub(first.micros)?;
    (before <= FIRMWARE_MAX).then_some(before)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{FIRMWARE_MAX, Sample, before_kernel, ticks};

    /// Returns a sample of a counter of `mhz` that started `before` microseconds before the
    /// kernel's clock.
    fn sample(mhz: u64, before: u64, micros: u64) -> Sample {
        Sample { ticks: (before + micros) * mhz, micros }
    }

    #[test]
    fn two_samples_give_the_time_before_the_kernel() {
        let found =
            before_kernel(sample(2400, 6_500_000, 3_000_000), sample(2400, 6_500_000, 8_000_000));
        assert_eq!(found, Some(6_500_000));
    }

    #[test]
    fn implausible_samples_give_nothing() {
        let check = |first, later| assert_eq!(before_kernel(first, later), None);
        let at = |ticks, micros| Sample { ticks, micros };
        // too close, standing still, running back, younger than the kernel, as old as the host
        check(sample(1, 5, 10), sample(1, 5, 11));
        check(at(7, 0), at(7, 9_000_000));
        check(at(7, 0), at(6, 9_000_000));
        check(at(5, 3_000_000), at(9_000_005, 12_000_000));
        check(sample(3000, FIRMWARE_MAX + 1, 0), sample(3000, FIRMWARE_MAX + 1, 2_000_000));
    }

    #[test]
    fn the_counter_does_not_run_backwards() {
        let first = ticks();
        assert!(ticks() >= first);
    }

    proptest! {
        #[test]
        fn any_samples_give_a_plausible_time_or_nothing(a in any::<[u64; 4]>()) {
            let first = Sample { ticks: a[0], micros: a[1] };
            let later = Sample { ticks: a[2], micros: a[3] };
            prop_assert!(before_kernel(first, later).is_none_or(|before| before <= FIRMWARE_MAX));
        }
    }
}
