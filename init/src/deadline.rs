//! Work that may hang in the kernel, in a thread that is waited for until a deadline.
//!
//! A thread that hangs stays behind: it holds nothing that others need, and ends with the machine.

use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};

/// Begins `work`; what it returns comes through the receiver.
pub fn begin<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<Receiver<T>> {
    let (sender, receiver) = mpsc::sync_channel(1);
    let work = move || drop(sender.send(work()));
    let thread = thread::Builder::new().name(name.into()).spawn(work);
    thread.with_context(|| format!("start the thread {name}"))?;
    Ok(receiver)
}

/// What the work came to; `None` if it did not end `within` from now, or panicked.
#[must_use]
pub fn end<T>(work: &Receiver<T>, within: Duration) -> Option<T> {
    work.recv_timeout(within).ok()
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::{begin, end};

    #[test]
    fn what_ends_is_returned() {
        assert_eq!(end(&begin("test", || 7).unwrap(), Duration::from_mins(1)), Some(7));
    }

    #[test]
    fn what_hangs_is_left_behind() {
        let (release, hang) = mpsc::channel::<()>();
        let work = begin("test", move || hang.recv().is_err()).unwrap();
        assert_eq!(end(&work, Duration::ZERO), None);
        drop(release);
        assert_eq!(end(&work, Duration::from_mins(1)), Some(true));
    }
}
