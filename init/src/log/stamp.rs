//! The time of a line on two clocks.

use kiln_base::time::now;
use rustix::time::ClockId;

/// A moment on both clocks.
///
/// The wall clock may be set at any time (a machine without a battery starts in 1970), so the order
/// within a boot comes from the monotonic clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stamp {
    /// Microseconds since 1970, on the wall clock.
    pub real: i64,
    /// Microseconds since the kernel's start.
    pub monotonic: u64,
}

impl Stamp {
    /// Returns the current moment.
    #[must_use]
    pub fn now() -> Self {
        let micros = |clock| now(clock).as_micros();
        Self {
            real: i64::try_from(micros(ClockId::Realtime)).unwrap_or_default(),
            monotonic: u64::try_from(micros(ClockId::Monotonic)).unwrap_or_default(),
        }
    }

    /// Returns the moment of the same boot at which the monotonic clock showed `monotonic`, if the
    /// wall clock was not set in between.
    #[must_use]
    pub fn at(self, monotonic: u64) -> Self {
        let ago = i64::try_from(self.monotonic).unwrap_or_default()
            - i64::try_from(monotonic).unwrap_or_default();
        Self { real: self.real - ago, monotonic }
    }
}

#[cfg(test)]
mod tests {
    use super::Stamp;

    #[test]
    fn an_earlier_moment_of_the_same_boot_is_as_much_earlier_on_both_clocks() {
        let now = Stamp { real: 5_000, monotonic: 3_000 };
        assert_eq!(now.at(1_000), Stamp { real: 3_000, monotonic: 1_000 });
    }
}
