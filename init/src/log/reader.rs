//! The thread that empties the services' pipes and reads the kernel's log.
//!
//! It never touches a disk and never waits for the writer. Bytes that do not fit into a ring go
//! from the pipe to `/dev/null` by `splice(2)`, uncopied, so a slow disk does not slow down a
//! service. The main loop does not do this work, so that a service with much output does not delay
//! a restart.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};

use super::kernel::{self, Origin, RECORD_MAX};
use super::line::prefix;
use super::shared::Shared;
use super::stamp::Stamp;
use super::stream::{INIT, KERNEL};
use kiln_base::time::timespec;

/// The size of a pipe: the largest that needs no privilege (`pipe-max-size`).
const PIPE: usize = 1024 * 1024;

/// The number of reads from one pipe before the other pipes' turn.
const TURNS: usize = 16;

/// The number of the kernel's records before the pipes' turn.
const RECORDS_MAX: usize = 64;

/// The pause between two checks whether the rings have room for the kernel's log again.
const PATIENCE: Duration = Duration::from_secs(1);

/// The number of bytes that are discarded at once if `splice` does not work.
const WASTE: usize = 64 * 1024;

/// Makes a pipe for a service's output: a non-blocking end for PID 1 and the service's end.
pub fn pipe() -> anyhow::Result<(OwnedFd, OwnedFd)> {
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).context("cannot make a pipe")?;
    // PID 1 must not wait for a read; the service's end stays blocking.
    rustix::io::ioctl_fionbio(&reader, true).context("cannot make a pipe non-blocking")?;
    // A smaller pipe works too, with more wake-ups.
    let _ = fcntl_setpipe_size(&reader, PIPE);
    Ok((reader, writer))
}

/// Opens the kernel's log at its oldest record.
#[must_use]
pub fn open_kernel_log() -> Option<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    rustix::fs::open("/dev/kmsg", flags, Mode::empty()).ok()
}

/// The state of the thread.
pub struct Reader {
    shared: Arc<Shared>,
    /// The pipes by service, or `None` once no process can write to it.
    pipes: Vec<Option<OwnedFd>>,
    services: Vec<&'static str>,
    kernel: Option<OwnedFd>,
    /// The sequence number of the next record.
    next: Option<u64>,
    null: Option<OwnedFd>,
    waste: Vec<u8>,
    record: Vec<u8>,
}

/// The result of a read.
enum Read {
    /// As many bytes as requested: there may be more.
    Full,
    /// Fewer bytes: the pipe is empty now.
    Empty,
    /// The end: no process can write to the pipe any more.
    End,
}

impl Read {
    fn from(result: Result<usize, Errno>, wanted: usize) -> Self {
        match result {
            Ok(0) => Self::End,
            Ok(length) if length == wanted => Self::Full,
            Ok(_) | Err(_) => Self::Empty,
        }
    }
}

fn readable(fd: &OwnedFd) -> PollFd<'_> {
    PollFd::from_borrowed_fd(fd.as_fd(), PollFlags::IN)
}

/// Discards the content of a pipe and returns its size.
fn waste(pipe: &OwnedFd, null: Option<&OwnedFd>, bytes: &mut [u8]) -> Result<usize, Errno> {
    let flags = SpliceFlags::NONBLOCK;
    match null.map(|null| splice(pipe, None, null, None, PIPE, flags)) {
        Some(result @ (Ok(_) | Err(Errno::AGAIN))) => result,
        _ => rustix::io::read(pipe, bytes),
    }
}

impl Reader {
    /// Returns a reader for the services' pipes, in the order of their rings, and for the kernel's
    /// log.
    pub(super) fn new(
        shared: Arc<Shared>,
        services: Vec<&'static str>,
        pipes: Vec<OwnedFd>,
        kernel: Option<OwnedFd>,
    ) -> Self {
        let null = rustix::fs::open("/dev/null", OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty());
        let (waste, record) = (vec![0; WASTE], vec![0; RECORD_MAX]);
        let pipes = pipes.into_iter().map(Some).collect();
        Self { shared, pipes, services, kernel, next: None, null: null.ok(), waste, record }
    }

    /// Reads as long as a process can write, even after the files are closed, because a service
    /// must not wait. On a node PID 1 keeps the services' ends open, so it reads forever.
    pub fn run(mut self) {
        while self.kernel.is_some() || self.pipes.iter().any(Option::is_some) {
            let (ready, kernel) = self.wait();
            for service in ready {
                self.drain(service);
            }
            if kernel {
                self.take_records();
            }
            self.shared.changed.notify_one();
        }
    }

    /// Waits and returns the pipes with data, and true if the kernel's log has records.
    fn wait(&self) -> (Vec<usize>, bool) {
        let kernel = self.kernel.as_ref().filter(|_| self.shared.has_room_for_records());
        let open = self.pipes.iter().enumerate();
        let (mut ids, mut fds): (Vec<_>, Vec<_>) =
            open.filter_map(|(index, pipe)| Some((index, readable(pipe.as_ref()?)))).unzip();
        ids.extend(kernel.map(|_| self.pipes.len()));
        fds.extend(kernel.map(readable));
        let patience = (kernel.is_none() && self.kernel.is_some()).then(|| timespec(PATIENCE));
        if let Err(error) = poll(&mut fds, patience.as_ref())
            && error != Errno::INTR
        {
            std::thread::sleep(PATIENCE);
        }
        let ready = ids.into_iter().zip(&fds).filter(|(_, fd)| !fd.revents().is_empty());
        let mut ready: Vec<usize> = ready.map(|(id, _)| id).collect();
        let log = ready.pop_if(|id| *id == self.pipes.len()).is_some();
        (ready, log)
    }

    fn drain(&mut self, service: usize) {
        for _ in 0..TURNS {
            match self.read(service) {
                Read::Full => {}
                Read::Empty => return,
                Read::End => return self.pipes[service] = None,
            }
        }
    }

    /// Reads into the ring, or discards bytes that do not fit. It holds the lock, so that a caller
    /// that sees the pipe empty and then closes the log finds the bytes. No call here can wait.
    fn read(&mut self, service: usize) -> Read {
        let mut state = self.shared.lock();
        let (Some(Some(pipe)), Some(ring)) =
            (self.pipes.get(service), state.rings.get_mut(service))
        else {
            return Read::Empty;
        };
        let closing = self.shared.is_closing();
        let spare = if closing { &mut [] } else { ring.spare() };
        let wanted = spare.len();
        if wanted == 0 {
            let gone = waste(pipe, self.null.as_ref(), &mut self.waste);
            if let (Ok(length), false) = (gone, closing) {
                ring.drop_bytes(length as u64);
            }
            return Read::from(gone, usize::MAX);
        }
        let read = rustix::io::read(pipe, spare);
        if let Ok(length @ 1..) = read {
            ring.fill(length, Stamp::now());
        }
        Read::from(read, wanted)
    }

    fn take_records(&mut self) {
        for _ in 0..RECORDS_MAX {
            let Some(kernel) = &self.kernel else { return };
            match rustix::io::read(kernel, &mut self.record[..]) {
                Ok(length) => self.take_record(length),
                // Records were overwritten. The next read returns the oldest one that is left.
                Err(Errno::PIPE | Errno::INTR) => {}
                Err(Errno::AGAIN) => return,
                Err(_) => return self.kernel = None,
            }
            if !self.shared.has_room_for_records() {
                return;
            }
        }
    }

    fn take_record(&mut self, length: usize) {
        let Some(record) = kernel::parse(&self.record[..length]) else { return };
        let lost = self.next.map_or(0, |next| record.sequence.saturating_sub(next));
        self.next = Some(record.sequence + 1);
        let stamp = Stamp::now().at(record.micros);
        if lost > 0 {
            let text = format!("kiln: {lost} records of the kernel's log were lost here");
            self.push(KERNEL, text.as_bytes(), stamp);
        }
        match record.origin(&self.services) {
            Origin::Init(text) => self.push(INIT, text, stamp),
            Origin::Kernel(text) => self.push(KERNEL, text, stamp),
            Origin::Copy => {}
        }
    }

    /// Puts lines into the ring of a stream that is stamped here.
    fn push(&self, stream: &'static str, text: &[u8], stamp: Stamp) {
        let prefix = prefix(stamp, stream);
        let mut lines = Vec::with_capacity(prefix.len() + text.len() + 1);
        for line in text.split(|&byte| byte == b'\n') {
            lines.extend_from_slice(prefix.as_bytes());
            lines.extend_from_slice(line);
            lines.push(b'\n');
        }
        let mut state = self.shared.lock();
        let ring = self.services.len() + usize::from(stream == INIT);
        if let Some(ring) = state.rings.get_mut(ring) {
            ring.push(&lines, stamp);
        }
    }
}
