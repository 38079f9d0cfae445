//! Work that may hang in the kernel, in a thread that is waited for until a deadline.
//!
//! A thread that hangs stays behind: it holds nothing that others need, and ends with the machine.

use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};

/// Begins `work`; what it returns comes through the receiver, or to `undo` if that is gone.
pub fn begin<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
    undo: impl FnOnce(T) + Send + 'static,
) -> Result<Receiver<T>> {
    let (sender, receiver) = mpsc::sync_channel(1);
    let work = move || {
        if let Err(late) = sender.send(work()) {
            undo(late.0);
        }
    };
    let thread = thread::Builder::new().name(name.into()).spawn(work);
    thread.with_context(|| format!("cannot start the thread {name}"))?;
    Ok(receiver)
}

/// What the work came to; `None` if it did not end `within` from now.
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
        let work = begin("test", || 7, |_| unreachable!()).unwrap();
        assert_eq!(end(&work, Duration::from_mins(1)), Some(7));
    }

    #[test]
    fn what_hangs_is_left_behind_and_undone_when_nobody_waits() {
        let (release, hang) = mpsc::channel::<()>();
        let (undo, undone) = mpsc::channel();
        let work =
            begin("test", move || hang.recv().is_err(), move |value| undo.send(value).unwrap());
        let work = work.unwrap();
        assert_eq!(end(&work, Duration::ZERO), None);
        drop(work);
        drop(release);
        assert_eq!(undone.recv_timeout(Duration::from_mins(1)), Ok(true));
    }
}
