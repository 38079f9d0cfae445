//! The processor's counter, which began with the machine: how long was it before the kernel?
//!
//! x86's time-stamp counter is 0 at reset (Intel SDM volume 3, "Time-Stamp Counter"), Arm's system
//! counter too; systemd-boot takes both for the time since power-on. How fast it counts is not
//! asked but measured, between two samples some seconds apart. A counter that a hypervisor did not
//! set back mostly gives a time that cannot be, and then there is none; one that a kexec or a warm
//! start did not set back counts from the power-on before.

/// What firmware may take at most: large servers test their memory for minutes.
const LONGEST: u64 = 15 * 60 * 1_000_000;

/// Samples closer than this say too little about the speed, in microseconds.
const APART: u64 = 1_000_000;

/// The counter and the kernel's clock at one moment.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    /// The counter.
    pub ticks: u64,
    /// Microseconds since the kernel's clock began.
    pub micros: u64,
}

/// The counter now; 0 where it is not known how to read it.
#[must_use]
pub fn ticks() -> u64 {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: every x86-64 processor has the instruction, and nobody forbids it to this process.
    return unsafe { std::arch::x86_64::_rdtsc() };
    #[cfg(target_arch = "aarch64")]
    {
        let ticks: u64;
        // SAFETY: Linux lets programs read the virtual counter; nothing else is touched.
        unsafe { std::arch::asm!("mrs {}, cntvct_el0", out(reg) ticks, options(nomem, nostack)) };
        return ticks;
    }
    #[allow(unreachable_code, reason = "only for other processors")]
    0
}

/// Microseconds between the counter's 0 and the kernel's.
#[must_use]
pub fn before_kernel(first: Sample, later: Sample) -> Option<u64> {
    let micros = later.micros.checked_sub(first.micros).filter(|&micros| micros >= APART)?;
    let ticks = later.ticks.checked_sub(first.ticks).filter(|&ticks| ticks > 0)?;
    let since_reset = u128::from(first.ticks) * u128::from(micros) / u128::from(ticks);
    let before = u64::try_from(since_reset).ok()?.checked_sub(first.micros)?;
    (before <= LONGEST).then_some(before)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{LONGEST, Sample, before_kernel, ticks};

    /// A counter of `mhz` that began `before` microseconds before the kernel's clock.
    fn sample(mhz: u64, before: u64, micros: u64) -> Sample {
        Sample { ticks: (before + micros) * mhz, micros }
    }

    #[test]
    fn two_samples_tell_the_time_before_the_kernel() {
        let found =
            before_kernel(sample(2400, 6_500_000, 3_000_000), sample(2400, 6_500_000, 8_000_000));
        assert_eq!(found, Some(6_500_000));
    }

    #[test]
    fn what_cannot_be_is_none() {
        let check = |first, later| assert_eq!(before_kernel(first, later), None);
        let at = |ticks, micros| Sample { ticks, micros };
        // too close, standing still, running back, younger than the kernel, as old as the host
        check(sample(1, 5, 10), sample(1, 5, 11));
        check(at(7, 0), at(7, 9_000_000));
        check(at(7, 0), at(6, 9_000_000));
        check(at(5, 3_000_000), at(9_000_005, 12_000_000));
        check(sample(3000, LONGEST + 1, 0), sample(3000, LONGEST + 1, 2_000_000));
    }

    #[test]
    fn the_counter_does_not_run_back() {
        let first = ticks();
        assert!(ticks() >= first);
    }

    proptest! {
        #[test]
        fn any_samples_are_no_panic(a in any::<[u64; 4]>()) {
            let first = Sample { ticks: a[0], micros: a[1] };
            let later = Sample { ticks: a[2], micros: a[3] };
            prop_assert!(before_kernel(first, later).is_none_or(|before| before <= LONGEST));
        }
    }
}
