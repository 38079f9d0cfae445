//! Counts the bytes and the time of one fetch.
//!
//! Errors pass through gitoxide, which wraps them. The meter therefore remembers the first cause, and
//! the fetch reports that one.

use std::io::{self, Read};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use crate::git::limits::{Failure, Limit, Limits};

/// The bytes of all fetches of the process.
static RECEIVED: AtomicU64 = AtomicU64::new(0);

/// Returns the number of bytes that git servers have sent to this process.
#[must_use]
pub fn received_by_all() -> u64 {
    RECEIVED.load(Ordering::Relaxed)
}

/// The state of one fetch.
#[derive(Debug)]
pub struct Meter {
    limits: Limits,
    deadline: Instant,
    received: AtomicU64,
    cause: OnceLock<Failure>,
    /// Set when the fetch must end; gitoxide looks at it while it unpacks.
    pub stop: AtomicBool,
}

impl Meter {
    /// Starts the clock.
    #[must_use]
    pub fn start(limits: Limits) -> Arc<Self> {
        Arc::new(Self {
            limits,
            deadline: Instant::now() + limits.time,
            received: AtomicU64::new(0),
            cause: OnceLock::new(),
            stop: AtomicBool::new(false),
        })
    }

    /// Returns the limits.
    #[must_use]
    pub const fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Returns the end of the time.
    #[must_use]
    pub const fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Returns the time that is left, or an error if none is.
    pub fn remaining(&self) -> io::Result<Duration> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(self.end(Failure::TimedOut(self.limits.time))) } else { Ok(left) }
    }

    /// Ends the fetch. Returns the error for the caller in between.
    pub fn end(&self, cause: Failure) -> io::Error {
        let error = io::Error::other(cause.to_string());
        let _ = self.cause.set(cause);
        self.stop.store(true, Ordering::Relaxed);
        error
    }

    /// Returns the first cause, or else `other` unless the time is over.
    #[must_use]
    pub fn cause_or(&self, other: Failure) -> Failure {
        let _ = self.remaining();
        self.cause.get().cloned().unwrap_or(other)
    }

    /// Returns the number of bytes that the server has sent.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// Counts bytes from the server; an error if they are too many, or the time is over.
    pub fn count(&self, bytes: usize) -> io::Result<()> {
        RECEIVED.fetch_add(bytes as u64, Ordering::Relaxed);
        let all = self.received.fetch_add(bytes as u64, Ordering::Relaxed) + bytes as u64;
        if all > self.limits.bytes {
            return Err(self.end(Failure::Limit(Limit::Bytes(self.limits.bytes))));
        }
        self.remaining().map(drop)
    }
}

/// A reader that counts.
#[derive(Debug)]
pub struct Metered<R> {
    /// The server's bytes.
    pub inner: R,
    /// The meter of the fetch.
    pub meter: Arc<Meter>,
}

impl<R: Read> Read for Metered<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer).map_err(|error| {
            if is_timeout(&error) {
                self.meter.end(Failure::TimedOut(self.meter.limits.time))
            } else {
                error
            }
        })?;
        self.meter.count(count)?;
        Ok(count)
    }
}

/// True for the end of the time, which ureq wraps.
fn is_timeout(error: &io::Error) -> bool {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<ureq::Error>());
    error.kind() == io::ErrorKind::TimedOut || matches!(inner, Some(ureq::Error::Timeout(_)))
}

#[cfg(test)]
mod tests {
    use super::{Meter, Metered};
    use crate::git::limits::{Failure, Limit, Limits};
    use std::io::Read as _;
    use std::sync::atomic::Ordering;
    use std::time::Duration;

    #[test]
    fn the_first_cause_stays() {
        let meter = Meter::start(Limits { bytes: 10, ..Limits::default() });
        let mut reader = Metered { inner: std::io::repeat(0), meter: meter.clone() };
        assert_eq!(reader.read(&mut [0; 10]).unwrap(), 10);
        assert!(!meter.stop.load(Ordering::Relaxed));
        assert!(reader.read(&mut [0; 1]).is_err());
        assert!(meter.stop.load(Ordering::Relaxed));
        drop(meter.end(Failure::Empty));
        assert_eq!(meter.cause_or(Failure::Denied), Failure::Limit(Limit::Bytes(10)));
    }

    #[test]
    fn no_time_is_left_after_the_deadline() {
        let meter = Meter::start(Limits { time: Duration::ZERO, ..Limits::default() });
        assert!(meter.remaining().is_err());
        assert_eq!(meter.cause_or(Failure::Empty), Failure::TimedOut(Duration::ZERO));
    }
}
