//! Work that may hang in the kernel, in a thread with a deadline.
//!
//! A hanging thread is abandoned: it holds nothing that others need, and ends with the machine.

use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};

/// Starts `work` in a thread. Its result comes through the receiver, or goes to `undo` if the
/// receiver is gone.
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

/// Waits for the result. Returns `None` if the work does not end in time.
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
    fn a_result_in_time_is_returned() {
        let work = begin("test", || 7, |_| unreachable!()).unwrap();
        assert_eq!(end(&work, Duration::from_mins(1)), Some(7));
    }

    #[test]
    fn hanging_work_is_abandoned_and_its_late_result_is_undone() {
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
