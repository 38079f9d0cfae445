//! The descriptors that connections and pipes may use, and the log lines that repeat.

use std::sync::atomic::{AtomicU64, Ordering};

use rustix::io::Errno;

/// Descriptors that are neither connections nor pipes: standard streams, epolls, signals,
/// listeners, name servers, checks, and clients of the operations port.
const RESERVED: u64 = 96;

/// The maximum number of pipes of one worker. A pipe costs two descriptors and, while it is full,
/// memory of its size.
const PIPES_MAX: u64 = 256;

/// The most workers.
pub const WORKERS_MAX: usize = 64;

/// The descriptors that are assumed if the limit is infinite.
const DESCRIPTORS: u64 = 1 << 24;

/// The connections and pipes that the limit of descriptors allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    /// The most connections of all workers together.
    pub connections_max: usize,
    /// The most pipes of one worker.
    pub pipes_max: usize,
}

/// Raises the soft limit of descriptors to the hard limit, and divides the descriptors.
#[must_use]
pub fn descriptors(workers: usize) -> Share {
    let limit = kiln_server::limits::raise_descriptors().unwrap_or(DESCRIPTORS);
    share(limit, workers as u64)
}

/// Divides the descriptors: two for each connection, and at most a tenth of all for pipes.
fn share(limit: u64, workers: u64) -> Share {
    let left = limit.saturating_sub(RESERVED).max(2);
    let pipes = (left / 20 / workers.max(1)).min(PIPES_MAX);
    let connections = (left - pipes * 2 * workers) / 2;
    let to_usize = |value: u64| usize::try_from(value).unwrap_or(usize::MAX);
    Share { connections_max: to_usize(connections.max(1)), pipes_max: to_usize(pipes) }
}

/// Returns the number of workers: one per processor that this process may use.
#[must_use]
pub fn workers() -> usize {
    kiln_server::limits::processors().min(WORKERS_MAX)
}

/// True if a system call failed because descriptors or memory have run out.
#[must_use]
pub const fn is_exhausted(errno: Errno) -> bool {
    matches!(errno, Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM)
}

/// Passes at most one log line of a kind per second, and counts the others.
#[derive(Debug, Default)]
pub struct LogLimit {
    next: AtomicU64,
    suppressed: AtomicU64,
}

impl LogLimit {
    /// Creates a limit that has passed no line yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { next: AtomicU64::new(0), suppressed: AtomicU64::new(0) }
    }

    /// Returns the number of lines suppressed before this line if it may be written at `now`, in
    /// milliseconds; `None` if this line is suppressed too.
    pub fn pass(&self, now: u64) -> Option<u64> {
        let next = self.next.load(Ordering::Relaxed);
        let exchange =
            || self.next.compare_exchange(next, now + 1000, Ordering::Relaxed, Ordering::Relaxed);
        if now >= next && exchange().is_ok() {
            return Some(self.suppressed.swap(0, Ordering::Relaxed));
        }
        self.suppressed.fetch_add(1, Ordering::Relaxed);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::{LogLimit, RESERVED, Share, share};
    use proptest::prelude::*;

    #[test]
    fn most_descriptors_are_for_connections() {
        assert_eq!(share(1024, 2), Share { connections_max: 418, pipes_max: 23 });
        assert_eq!(share(1 << 20, 4).pipes_max, 256);
        assert_eq!(share(10, 1), Share { connections_max: 1, pipes_max: 0 });
    }

    #[test]
    fn one_line_per_second_passes_and_the_others_are_counted() {
        let limit = LogLimit::new();
        assert_eq!(limit.pass(5000), Some(0));
        for now in 5001..5100 {
            assert_eq!(limit.pass(now), None);
        }
        assert_eq!(limit.pass(6000), Some(99));
    }

    proptest! {
        #[test]
        fn connections_and_pipes_never_exceed_the_limit(limit in 98_u64..1 << 24, workers in 1_u64..=64) {
            let Share { connections_max, pipes_max } = share(limit, workers);
            let used = connections_max as u64 * 2 + pipes_max as u64 * 2 * workers + RESERVED;
            prop_assert!(used <= limit);
        }
    }
}
