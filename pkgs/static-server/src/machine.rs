//! The server's share of the processors and descriptors that the machine or the container allows.

use kiln_server::limits;

/// The most workers that are started by default; serving pages does not need more.
const WORKERS_MAX: usize = 16;

/// The default maximum of open connections. That many idle connections take about 2 MiB.
const CONNECTIONS_MAX: usize = 16_384;

/// Descriptors for standard streams, signals, listeners and watched folders, with some to spare.
const OTHER_DESCRIPTORS: u64 = 16;

/// Descriptors of a worker: its epoll and its eventfd.
const WORKER_DESCRIPTORS: u64 = 2;

/// Returns the default number of workers.
#[must_use]
pub fn workers() -> usize {
    limits::processors().min(WORKERS_MAX)
}

/// The shares of the descriptors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Descriptors {
    /// The most connections of all workers together.
    pub connections: usize,
    /// The most content files that stay open.
    pub files: usize,
}

/// Raises the soft limit of descriptors to the hard limit, and divides the descriptors.
#[must_use]
pub fn descriptors(workers: usize, wanted: Option<usize>) -> Descriptors {
    share(limits::raise_descriptors().unwrap_or(u64::MAX), workers, wanted)
}

/// Gives a quarter to files and the rest to connections.
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
