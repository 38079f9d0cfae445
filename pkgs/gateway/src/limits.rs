//! How much of the machine may be used: descriptors, processors, and lines of log.

use std::sync::atomic::{AtomicU64, Ordering};

use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors that are neither connections nor pipes: standard streams, epolls, signals,
/// listeners, name servers, checks, clients of the operation port.
const OTHERS: u64 = 96;

/// Most pipes of one worker. Each is two descriptors and, while it is full, up to its size of memory.
const MOST_PIPES: u64 = 256;

/// Connections and pipes that the limit of descriptors allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Descriptors {
    /// Most connections at once, of all workers together.
    pub connections: usize,
    /// Most pipes at once, of one worker.
    pub pipes: usize,
}

/// Raises the soft limit to the hard one, and shares it out.
#[must_use]
pub fn descriptors(workers: usize) -> Descriptors {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).is_ok();
    let limit = if raised { maximum } else { current }.unwrap_or(1 << 24);
    share(limit, workers as u64)
}

/// Of all descriptors a tenth at most is for pipes; a connection takes two.
fn share(limit: u64, workers: u64) -> Descriptors {
    let left = limit.saturating_sub(OTHERS).max(2);
    let pipes = (left / 20 / workers.max(1)).min(MOST_PIPES);
    let connections = (left - pipes * 2 * workers) / 2;
    let to_usize = |value: u64| usize::try_from(value).unwrap_or(usize::MAX);
    Descriptors { connections: to_usize(connections.max(1)), pipes: to_usize(pipes) }
}

/// One worker per processor of the affinity mask, bounded by the control group's quota.
#[must_use]
pub fn workers() -> usize {
    // The standard library looks at sched_getaffinity(2) and at cpu.max of the groups above us.
    std::thread::available_parallelism().map_or(1, usize::from).min(64)
}

/// True if a system call failed because descriptors or memory have run out.
#[must_use]
pub const fn is_exhausted(errno: Errno) -> bool {
    matches!(errno, Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM)
}

/// Lets through one line per second of a kind, and counts the others.
#[derive(Debug, Default)]
pub struct Seldom {
    next: AtomicU64,
    kept_back: AtomicU64,
}

impl Seldom {
    /// A limiter that has let nothing through.
    #[must_use]
    pub const fn new() -> Self {
        Self { next: AtomicU64::new(0), kept_back: AtomicU64::new(0) }
    }

    /// Whether a line may be written at `now` (milliseconds): how many were kept back before it.
    pub fn pass(&self, now: u64) -> Option<u64> {
        let next = self.next.load(Ordering::Relaxed);
        let ours = now >= next
            && self
                .next
                .compare_exchange(next, now + 1000, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok();
        if ours {
            return Some(self.kept_back.swap(0, Ordering::Relaxed));
        }
        self.kept_back.fetch_add(1, Ordering::Relaxed);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::{Descriptors, Seldom, share};

    #[test]
    fn connections_and_pipes_fit_into_the_limit() {
        assert_eq!(share(1024, 2), Descriptors { connections: 418, pipes: 23 });
        assert_eq!(share(1 << 20, 4).pipes, 256);
        assert_eq!(share(10, 1), Descriptors { connections: 1, pipes: 0 });
        for (limit, workers) in [(256, 1), (1024, 16), (20_000, 2), (1 << 20, 64)] {
            let Descriptors { connections, pipes } = share(limit, workers);
            let used = connections as u64 * 2 + pipes as u64 * 2 * workers + super::OTHERS;
            assert!(used <= limit, "{limit} {workers}: {used}");
        }
    }

    #[test]
    fn one_line_per_second_passes_and_the_others_are_counted() {
        let seldom = Seldom::new();
        assert_eq!(seldom.pass(5000), Some(0));
        for now in 5001..5100 {
            assert_eq!(seldom.pass(now), None);
        }
        assert_eq!(seldom.pass(6000), Some(99));
    }
}
