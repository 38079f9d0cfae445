//! SIGTERM and SIGINT as a file descriptor that a poll loop can wait for.
//!
//! Both signals are blocked and read through signalfd(2). That also works for PID 1 of a container,
//! for which the kernel drops signals that have the default action: it never drops a blocked one
//! (`sig_ignored()` in the kernel's `kernel/signal.c`).
//! The mask is inherited: make a [`Termination`] before the first thread, and unblock in a child.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use kiln_base::time::timespec;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

/// Readable once SIGTERM or SIGINT has come.
#[derive(Debug)]
pub struct Termination {
    fd: SignalFd,
}

impl Termination {
    /// Blocks both signals for this thread and the ones it will start.
    pub fn new() -> io::Result<Self> {
        let mut set = SigSet::empty();
        set.add(Signal::SIGTERM);
        set.add(Signal::SIGINT);
        set.thread_block()?;
        let fd = SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        Ok(Self { fd })
    }

    /// Takes a signal that has come; never waits.
    pub fn take(&self) -> io::Result<bool> {
        Ok(self.fd.read_signal()?.is_some())
    }

    /// Sleeps for `time` at the most (`None`: without end); true as soon as a signal has come.
    ///
    /// The signal is left in the descriptor, so every later call returns true at once.
    pub fn wait(&self, time: Option<Duration>) -> io::Result<bool> {
        let mut fds = [PollFd::new(&self.fd, PollFlags::IN)];
        match poll(&mut fds, time.map(timespec).as_ref()) {
            Ok(ready) => Ok(ready > 0),
            // Stopped and continued by a debugger or the freezer: the caller asks again.
            Err(Errno::INTR) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

impl AsFd for Termination {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// What a signal asks a long-lived program to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// SIGTERM or SIGINT: end.
    End,
    /// SIGHUP: read the configuration again.
    Reload,
}

/// Readable once SIGTERM, SIGINT or SIGHUP has come.
#[derive(Debug)]
pub struct Requests {
    fd: SignalFd,
}

impl Requests {
    /// Blocks the signals for this thread and the ones it will start.
    pub fn new() -> io::Result<Self> {
        let mut set = SigSet::empty();
        for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
            set.add(signal);
        }
        set.thread_block()?;
        let fd = SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        Ok(Self { fd })
    }

    /// Takes a signal that has come; never waits.
    pub fn take(&self) -> io::Result<Option<Request>> {
        let hangup = Signal::SIGHUP as u32;
        let signal = self.fd.read_signal()?;
        Ok(signal.map(|info| if info.ssi_signo == hangup { Request::Reload } else { Request::End }))
    }
}

impl AsFd for Requests {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::{Request, Requests, Termination};
    use nix::sys::signal::{Signal, raise};
    use std::time::Duration;

    #[test]
    fn a_signal_makes_the_descriptor_readable_and_does_not_kill() {
        let termination = Termination::new().unwrap();
        assert!(!termination.take().unwrap());
        assert!(!termination.wait(Some(Duration::ZERO)).unwrap());
        // To this thread alone: the other test threads do not block it.
        raise(Signal::SIGTERM).unwrap();
        assert!(termination.wait(None).unwrap());
        assert!(termination.take().unwrap());
        assert!(!termination.take().unwrap());
    }

    #[test]
    fn a_hangup_is_told_from_the_end() {
        let requests = Requests::new().unwrap();
        raise(Signal::SIGHUP).unwrap();
        assert_eq!(requests.take().unwrap(), Some(Request::Reload));
        raise(Signal::SIGINT).unwrap();
        assert_eq!(requests.take().unwrap(), Some(Request::End));
        assert_eq!(requests.take().unwrap(), None);
    }
}
