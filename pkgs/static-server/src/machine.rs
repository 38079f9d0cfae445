//! What the machine, or the container, allows: processors and descriptors.

use kiln_server::limits;

/// Most workers that are started without being asked for: a page needs no more.
const WORKERS_MAX: usize = 16;

/// Most connections at once that are allowed without being asked for: together they take about
/// 2 MiB when idle.
const CONNECTIONS_MAX: usize = 16_384;

/// Descriptors for standard streams, signals, listeners, folders that are looked at, and some room.
const OTHER_DESCRIPTORS: u64 = 16;

/// Descriptors that a worker has: its epoll and its eventfd.
const WORKER_DESCRIPTORS: u64 = 2;

/// Returns the number of workers that are started without being asked for.
#[must_use]
pub fn workers() -> usize {
    limits::processors().min(WORKERS_MAX)
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
    share(limits::raise_descriptors().unwrap_or(u64::MAX), workers, wanted)
}

/// A quarter for files, the rest for connections.
fn share(limit: u64, workers: usize, wanted: Option<usize>) -> Descriptors {
    let files = limit / 4;
    let others = OTHER_DESCRIPTORS + WORKER_DESCRIPTORS * workers as u64;
    let room = usize::try_from(limit.saturating_sub(files + others)).unwrap_or(usize::MAX);
    let connections = room.min(wanted.unwrap_or(CONNECTIONS_MAX)).max(workers);
    Descriptors { connections, files: usize::try_from(files).unwrap_or(usize::MAX) }
}

#[cfg(test)]
mod tests {
    use super::{Descriptors, share};

    #[test]
    fn few_descriptors_are_enough() {
        assert_eq!(share(64, 2, None), Descriptors { connections: 28, files: 16 });
        assert_eq!(share(8, 2, None), Descriptors { connections: 2, files: 2 });
        assert_eq!(share(1 << 20, 2, None).connections, 16_384);
        assert_eq!(share(1 << 20, 2, Some(100)).connections, 100);
        assert!(share(u64::MAX, 1, Some(usize::MAX)).connections > 1 << 40);
    }
}
