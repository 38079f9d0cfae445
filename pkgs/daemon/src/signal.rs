//! Signals as a file descriptor that a poll loop can wait for.
//!
//! The signals are blocked and read through signalfd(2). This also works for PID 1 of a container,
//! because the kernel drops a signal whose action for PID 1 is the default only if the signal is not
//! blocked (`sig_ignored()` in the kernel's `kernel/signal.c`).
//! The mask is inherited, so a [`Termination`] must be created before the first thread is started, and a
//! child process must unblock the signals.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use kiln_base::time::timespec;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

/// A descriptor that is readable once SIGTERM or SIGINT has arrived.
#[derive(Debug)]
pub struct Termination {
    fd: SignalFd,
}

impl Termination {
    /// Blocks both signals for this thread and the threads that it will start.
    pub fn new() -> io::Result<Self> {
        let mut set = SigSet::empty();
        set.add(Signal::SIGTERM);
        set.add(Signal::SIGINT);
        set.thread_block()?;
        let fd = SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        Ok(Self { fd })
    }

    /// Takes a signal if one has arrived; never waits.
    pub fn take(&self) -> io::Result<bool> {
        Ok(self.fd.read_signal()?.is_some())
    }

    /// Sleeps for at most `time` (`None`: forever); returns true as soon as a signal has arrived.
    ///
    /// The signal stays in the descriptor, so every later call returns true at once.
    pub fn wait(&self, time: Option<Duration>) -> io::Result<bool> {
        let mut fds = [PollFd::new(&self.fd, PollFlags::IN)];
        match poll(&mut fds, time.map(timespec).as_ref()) {
            Ok(ready) => Ok(ready > 0),
            // A debugger or the freezer stopped and continued the process. The caller tries again.
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

/// The request that a signal makes to a long-running program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// SIGTERM or SIGINT: stop.
    End,
    /// SIGHUP: read the configuration again.
    Reload,
}

/// A descriptor that is readable once SIGTERM, SIGINT or SIGHUP has arrived.
#[derive(Debug)]
pub struct Requests {
    fd: SignalFd,
}

impl Requests {
    /// Blocks the signals for this thread and the threads that it will start.
    pub fn new() -> io::Result<Self> {
        let mut set = SigSet::empty();
        for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
            set.add(signal);
        }
        set.thread_block()?;
        let fd = SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        Ok(Self { fd })
    }

    /// Takes a signal if one has arrived; never waits.
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
        // The signal goes to this thread alone, because other test threads do not block it.
        raise(Signal::SIGTERM).unwrap();
        assert!(termination.wait(None).unwrap());
        assert!(termination.take().unwrap());
        assert!(!termination.take().unwrap());
    }

    #[test]
    fn a_hangup_is_not_a_request_to_stop() {
        let requests = Requests::new().unwrap();
        raise(Signal::SIGHUP).unwrap();
        assert_eq!(requests.take().unwrap(), Some(Request::Reload));
        raise(Signal::SIGINT).unwrap();
        assert_eq!(requests.take().unwrap(), Some(Request::End));
        assert_eq!(requests.take().unwrap(), None);
    }
}
