//! Services' output: bounded memory, one thread that writes, and drops that are counted.
//!
//! The main loop moves bytes from the services' pipes into a ring; it never touches a file. The
//! thread takes them out and writes `/var/log/NAME.log`. When the disk is slower than a service,
//! the ring is full and the newest bytes are dropped: the service never waits for a disk.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use anyhow::{Context, Result};

use crate::kmsg;

/// Bytes kept for each service while the disk does not keep up.
const RING: usize = 256 * 1024;

/// A log file is renamed to `NAME.log.1` at this size; with two services at most 32 MiB in all.
const FILE_MAX: u64 = 8 * 1024 * 1024;

/// The thread's stack: a chunk of the ring lies on the heap, so little is needed.
const STACK: usize = 64 * 1024;

/// One service's bytes that are not written yet.
#[derive(Debug, Default)]
pub struct Ring {
    bytes: Vec<u8>,
    dropped: u64,
}

impl Ring {
    /// Takes what fits and counts the rest.
    pub fn push(&mut self, bytes: &[u8]) {
        let fits = bytes.len().min(RING - self.bytes.len());
        self.bytes.extend_from_slice(&bytes[..fits]);
        self.dropped += (bytes.len() - fits) as u64;
    }

    /// Moves all out into `into`, and a line about what was lost. The memory is kept by both.
    pub fn take(&mut self, into: &mut Vec<u8>) {
        into.clear();
        into.extend_from_slice(&self.bytes);
        self.bytes.clear();
        if self.dropped > 0 {
            let line = format!("\nkiln: {} bytes of output dropped here\n", self.dropped);
            into.extend_from_slice(line.as_bytes());
            self.dropped = 0;
        }
    }

    fn is_empty(&self) -> bool {
        self.bytes.is_empty() && self.dropped == 0
    }
}

/// What the main loop and the thread share.
#[derive(Debug, Default)]
struct State {
    rings: Vec<Ring>,
    closing: bool,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

impl Shared {
    /// A poisoned lock is taken anyway: bytes of a log have no invariant to lose.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The main loop's end.
#[derive(Debug)]
pub struct Log(Arc<Shared>);

impl Log {
    /// Starts the thread; `names` are the services', and their index is what [`Self::push`] takes.
    pub fn start(names: &[&'static str], to_console: bool) -> Result<Self> {
        let rings = names.iter().map(|_| Ring::default()).collect();
        let state = Mutex::new(State { rings, closing: false });
        let shared = Arc::new(Shared { state, changed: Condvar::new() });
        let files = names.iter().map(|name| LogFile::new(name, to_console)).collect();
        let thread = Arc::clone(&shared);
        thread::Builder::new()
            .name("log".into())
            .stack_size(STACK)
            .spawn(move || write_until_closed(&thread, files))
            .context("start the log's thread")?;
        Ok(Self(shared))
    }

    /// Hands over output of a service. Never waits for a disk.
    pub fn push(&self, service: usize, bytes: &[u8]) {
        if let Some(ring) = self.0.lock().rings.get_mut(service) {
            ring.push(bytes);
        }
        self.0.changed.notify_one();
    }

    /// Asks the thread to close its files and to end, so that `/var` can be unmounted.
    pub fn close(&self) {
        self.0.lock().closing = true;
        self.0.changed.notify_one();
    }
}

fn write_until_closed(shared: &Shared, mut files: Vec<LogFile>) {
    let mut chunk = Vec::new();
    loop {
        for (index, file) in files.iter_mut().enumerate() {
            if let Some(ring) = shared.lock().rings.get_mut(index) {
                ring.take(&mut chunk);
            }
            file.write(&chunk);
        }
        let idle = |state: &mut State| !state.closing && state.rings.iter().all(Ring::is_empty);
        let state = shared.changed.wait_while(shared.lock(), idle);
        if state.unwrap_or_else(PoisonError::into_inner).closing {
            return;
        }
    }
}

/// A log file that is opened when there is something to write.
struct LogFile {
    name: &'static str,
    path: PathBuf,
    open: Option<(File, u64)>,
    to_console: bool,
    failed: bool,
}

impl LogFile {
    fn new(name: &'static str, to_console: bool) -> Self {
        let path = PathBuf::from(format!("/var/log/{name}.log"));
        Self { name, path, open: None, to_console, failed: false }
    }

    fn write(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        if self.to_console {
            self.copy_to_console(bytes);
        }
        match self.append(bytes) {
            Ok(()) => self.failed = false,
            Err(error) => self.fail(&error),
        }
    }

    fn copy_to_console(&self, bytes: &[u8]) {
        for line in String::from_utf8_lossy(bytes).lines().filter(|line| !line.is_empty()) {
            kmsg::notice(format_args!("{}| {line}", self.name));
        }
    }

    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        let (mut file, size) = match self.open.take() {
            Some(open) => open,
            None => self.reopen()?,
        };
        file.write_all(bytes).with_context(|| format!("write {}", self.path.display()))?;
        let size = size + bytes.len() as u64;
        if size < FILE_MAX {
            self.open = Some((file, size));
            return Ok(());
        }
        fs::rename(&self.path, self.path.with_extension("log.1")).context("rotate a log")
    }

    fn reopen(&self) -> Result<(File, u64)> {
        let file = OpenOptions::new().create(true).append(true).open(&self.path);
        let file = file.with_context(|| format!("open {}", self.path.display()))?;
        let size = file.metadata().context("stat a log")?.len();
        Ok((file, size))
    }

    /// Says it once, until a write succeeds again: a full disk fails for hours.
    fn fail(&mut self, error: &anyhow::Error) {
        if !self.failed {
            kmsg::warn(format_args!("log of {}: {error:#}", self.name));
        }
        self.failed = true;
    }
}

#[cfg(test)]
mod tests {
    use super::{LogFile, RING, Ring};

    #[test]
    fn a_full_ring_drops_and_says_how_much() {
        let mut ring = Ring::default();
        ring.push(&vec![b'a'; RING]);
        ring.push(b"lost");
        let mut out = Vec::new();
        ring.take(&mut out);
        assert!(out.ends_with(b"a\nkiln: 4 bytes of output dropped here\n"));
        assert!(ring.is_empty());
        ring.push(b"next");
        ring.take(&mut out);
        assert_eq!(out, b"next");
    }

    #[test]
    fn a_log_is_rotated_at_its_bound_and_starts_anew() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = LogFile::new("x", false);
        file.path = folder.path().join("x.log");
        for _ in 0..33 {
            file.append(&vec![b'a'; RING]).unwrap();
        }
        let size = |name: &str| std::fs::metadata(folder.path().join(name)).unwrap().len();
        assert_eq!((size("x.log.1"), size("x.log")), (8 * 1024 * 1024, RING as u64));
    }
}
