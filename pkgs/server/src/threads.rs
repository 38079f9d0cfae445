//! Worker threads: starting them, and waking them from a wait for events.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::thread::JoinHandle;

use anyhow::Context as _;
use rustix::event::{EventfdFlags, eventfd};

/// Starts a thread with a stack of this many bytes.
///
/// Threads of a server need far less than the 2 MiB that the standard library reserves.
pub fn spawn<T: Send + 'static>(
    name: &str,
    stack: usize,
    run: impl FnOnce() -> T + Send + 'static,
) -> anyhow::Result<JoinHandle<T>> {
    let builder = std::thread::Builder::new().name(name.to_owned()).stack_size(stack);
    builder.spawn(run).with_context(|| format!("cannot start the thread {name}"))
}

/// One eventfd(2) for each worker, readable when the worker has been woken.
#[derive(Debug)]
pub struct Wakers(Vec<OwnedFd>);

impl Wakers {
    /// Creates an event descriptor for each worker.
    pub fn new(workers: usize) -> anyhow::Result<Self> {
        let waker = |_| eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK);
        let wakers: Result<Vec<OwnedFd>, _> = (0..workers).map(waker).collect();
        wakers.map(Self).context("cannot create an event descriptor")
    }

    /// Returns the number of workers.
    #[must_use]
    pub const fn workers(&self) -> usize {
        self.0.len()
    }

    /// Returns the descriptor that a worker waits for in addition to its sockets.
    ///
    /// # Panics
    ///
    /// Panics if there is no such worker.
    #[inline]
    #[must_use]
    pub fn descriptor(&self, worker: usize) -> BorrowedFd<'_> {
        self.0[worker].as_fd()
    }

    /// Wakes all workers.
    pub fn wake(&self) {
        for waker in &self.0 {
            // Fails only after 2^64 - 2 unread calls, and then the worker is awake anyway.
            let _ = rustix::io::write(waker, &1_u64.to_ne_bytes());
        }
    }

    /// Clears a worker's wake-up; called by that worker.
    #[inline]
    pub fn clear(&self, worker: usize) {
        // The descriptor is non-blocking. Its value is the number of calls, which does not matter.
        let _ = rustix::io::read(&self.0[worker], &mut [0; 8]);
    }
}

#[cfg(test)]
mod tests {
    use super::{Wakers, spawn};
    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    fn is_readable(wakers: &Wakers, worker: usize) -> bool {
        let descriptor = wakers.descriptor(worker);
        let mut fds = [PollFd::from_borrowed_fd(descriptor, PollFlags::IN)];
        poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).unwrap() > 0
    }

    #[test]
    fn a_worker_is_awake_until_it_clears_its_wake_up() {
        let wakers = Wakers::new(2).unwrap();
        assert!(!is_readable(&wakers, 0));
        wakers.wake();
        wakers.wake();
        wakers.clear(0);
        assert!(!is_readable(&wakers, 0) && is_readable(&wakers, 1));
        wakers.clear(0);
    }

    #[test]
    fn a_thread_has_its_name() {
        let name =
            spawn("worker", 64 << 10, || std::thread::current().name().map(ToOwned::to_owned));
        assert_eq!(name.unwrap().join().unwrap().as_deref(), Some("worker"));
    }
}
