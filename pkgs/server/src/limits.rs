//! The processors and descriptors that the machine or container allows, and the shutdown time that
//! kubelet allows.

use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The longest time for connections that are open when a server gets SIGTERM.
///
/// kubelet kills a container 30 seconds after SIGTERM (`terminationGracePeriodSeconds`).
pub const DRAIN_TIME_MAX: Duration = Duration::from_secs(25);

/// Returns the number of processors that this process may use, at least 1.
///
/// The standard library takes the affinity mask (`sched_getaffinity(2)`), bounded by the quotas
/// (`cpu.max`) of the control group and of the groups above it. The result is rounded down to whole
/// processors.
#[must_use]
pub fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Raises the soft limit of open descriptors to the hard limit, and returns it; `None` means
/// unlimited.
#[must_use]
pub fn raise_descriptors() -> Option<u64> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).is_ok();
    if raised { maximum } else { current }
}

#[cfg(test)]
mod tests {
    use super::{processors, raise_descriptors};
    use rustix::process::{Resource, getrlimit};

    #[test]
    fn there_is_a_processor() {
        assert!(processors() >= 1);
    }

    #[test]
    fn the_soft_limit_becomes_the_hard_one() {
        let raised = raise_descriptors();
        let limit = getrlimit(Resource::Nofile);
        assert_eq!((raised, limit.current), (limit.maximum, limit.maximum));
    }
}
