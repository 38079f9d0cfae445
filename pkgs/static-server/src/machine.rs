//! What the machine, or the container, allows: processors and descriptors.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Most workers that are started without being asked for: a page needs no more.
const MAX_WORKERS: usize = 16;

/// Most connections at once that are allowed without being asked for: together they take about
/// 2 MiB when idle.
const MAX_CONNECTIONS: usize = 16_384;

/// Descriptors for standard streams, signals, listeners, folders that are looked at, and some room.
const OTHER_DESCRIPTORS: u64 = 16;

/// Descriptors that a worker has: its epoll and its eventfd.
const WORKER_DESCRIPTORS: u64 = 2;

/// Processors that may be used: those of the affinity mask, bounded by the quota of the control
/// group (`cpu.max`, which a container sees as its own).
#[must_use]
pub fn processors() -> usize {
    let mask = rustix::thread::sched_getaffinity(None);
    let allowed = mask.map_or(1, |mask| mask.count() as usize);
    let quota = std::fs::read_to_string("/sys/fs/cgroup/cpu.max").ok();
    let quota = quota.as_deref().and_then(quota_of).unwrap_or(usize::MAX);
    allowed.min(quota).clamp(1, MAX_WORKERS)
}

/// Processors of a quota, rounded up: `200000 100000` are two, `max` is no bound.
fn quota_of(text: &str) -> Option<usize> {
    let mut words = text.split_ascii_whitespace();
    let quota: u64 = words.next()?.parse().ok()?;
    let period: u64 = words.next()?.parse().ok().filter(|period| *period > 0)?;
    usize::try_from(quota.div_ceil(period)).ok()
}

/// How descriptors are shared out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Descriptors {
    /// Most connections of all workers together.
    pub connections: usize,
    /// Most files of the content that stay open.
    pub files: usize,
}

/// Raises the limit of descriptors to the hard one and shares them out.
#[must_use]
pub fn descriptors(workers: usize, wanted: Option<usize>) -> Descriptors {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).is_ok();
    let limit = if raised { maximum } else { current }.unwrap_or(u64::MAX);
    share(limit, workers, wanted)
}

/// A quarter for files, the rest for connections.
fn share(limit: u64, workers: usize, wanted: Option<usize>) -> Descriptors {
    let files = limit / 4;
    let others = OTHER_DESCRIPTORS + WORKER_DESCRIPTORS * workers as u64;
    let room = usize::try_from(limit.saturating_sub(files + others)).unwrap_or(usize::MAX);
    let connections = room.min(wanted.unwrap_or(MAX_CONNECTIONS)).max(workers);
    Descriptors { connections, files: usize::try_from(files).unwrap_or(usize::MAX) }
}

#[cfg(test)]
mod tests {
    use super::{Descriptors, quota_of, share};

    #[test]
    fn a_quota_is_rounded_up() {
        assert_eq!(quota_of("max 100000\n"), None);
        assert_eq!(quota_of("50000 100000\n"), Some(1));
        assert_eq!(quota_of("250000 100000"), Some(3));
        assert_eq!(quota_of("1 0"), None);
        assert_eq!(quota_of(""), None);
    }

    #[test]
    fn few_descriptors_are_enough() {
        assert_eq!(share(64, 2, None), Descriptors { connections: 28, files: 16 });
        assert_eq!(share(8, 2, None), Descriptors { connections: 2, files: 2 });
        assert_eq!(share(1 << 20, 2, None).connections, 16_384);
        assert_eq!(share(1 << 20, 2, Some(100)).connections, 100);
        assert!(share(u64::MAX, 1, Some(usize::MAX)).connections > 1 << 40);
    }
}
