//! Output of the services and lines of the kernel, from pipes to bounded files in `/var/log`.
//!
//! ```text
//! containerd, kubelet ─pipe─┐                 ┌─ ring ─┐
//!                           ├─ reader thread ─┤        ├─ writer thread ─ NAME.log, NAME.log.1
//! /dev/kmsg ────────────────┘                 └─ ring ─┘
//! ```
//!
//! Two threads, because a disk may stall for a minute and a pipe must not: the [`reader`] drops
//! and counts what has no room, the [`writer`] is the only one that waits for a disk, and the main
//! loop has no part in it. PID 1's own lines come back to it through the kernel's log. [`line`]
//! has the format, [`file`](mod@file) the rotation; the applet `journalctl` reads both.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use anyhow::{Context, Result};

pub mod file;
pub mod kernel;
pub mod line;
pub mod pod_logs;
pub mod reader;
pub mod ring;
pub mod time;
pub mod unstarted;
pub mod writer;

#[cfg(test)]
mod tests;

use crate::storage::data::Var;
use file::LogFile;
use reader::Reader;
use ring::Ring;
use writer::Unit;

/// Where the files are.
pub const FOLDER: &str = "/var/log";

/// The unit of PID 1's own lines.
pub const INIT: &str = "init";

/// The unit of the kernel's lines.
pub const KERNEL: &str = "kernel";

/// Everything that has a log file.
pub const UNITS: [&str; 4] = ["containerd", "kubelet", KERNEL, INIT];

/// Bytes kept of each service while the disk does not keep up.
const PLACES: usize = 256 * 1024;

/// Bytes kept of the kernel's lines and of PID 1's: few, since the kernel keeps them too.
const KERNEL_PLACES: usize = 64 * 1024;

/// Bytes of one file where `/var` is in memory: 8 MiB for two files of each unit.
const FILE_IN_MEMORY: u64 = 1024 * 1024;

/// Bytes of one file on a data partition: 64 MiB for two files of each unit.
const FILE_ON_PARTITION: u64 = 8 * 1024 * 1024;

/// Bytes of each of a unit's two files.
#[must_use]
pub const fn file_max(var: Var) -> u64 {
    match var {
        Var::Memory => FILE_IN_MEMORY,
        Var::Partition => FILE_ON_PARTITION,
    }
}

/// The threads' stacks: what is large lies on the heap.
const STACK: usize = 64 * 1024;

/// The kernel's id of this boot.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// What the threads and the main loop share.
#[derive(Debug)]
struct State {
    /// One per service, then the kernel's, then PID 1's.
    rings: Vec<Ring>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    closing: AtomicBool,
}

/// What the writer does next.
#[derive(Debug, PartialEq, Eq)]
enum Work {
    Write,
    Closed,
}

impl Shared {
    fn new(services: usize) -> Arc<Self> {
        let rings = (0..services).map(|_| Ring::new(PLACES));
        let rings = rings.chain((0..2).map(|_| Ring::new(KERNEL_PLACES))).collect();
        let (state, changed) = (Mutex::new(State { rings }), Condvar::new());
        Arc::new(Self { state, changed, closing: AtomicBool::new(false) })
    }

    /// A poisoned lock is taken anyway: bytes of a log have no invariant to lose.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Relaxed)
    }

    /// Whether one more record of the kernel's log fits, whoever wrote it. Without room it stays
    /// where it is: in the kernel's memory.
    fn has_room_for_records(&self) -> bool {
        let state = self.lock();
        !self.is_closing()
            && state.rings.iter().rev().take(2).all(|ring| ring.room() >= 4 * kernel::RECORD_MAX)
    }

    /// Waits until a ring has something, or until there will be no more.
    fn wait_for_work(&self) -> Work {
        let is_idle =
            |state: &mut State| !self.is_closing() && state.rings.iter().all(Ring::is_empty);
        let state = self.changed.wait_while(self.lock(), is_idle);
        let state = state.unwrap_or_else(PoisonError::into_inner);
        if state.rings.iter().all(Ring::is_empty) { Work::Closed } else { Work::Write }
    }
}

/// The main loop's end.
#[derive(Debug)]
pub struct Log(Arc<Shared>);

/// The two threads, before they run.
pub struct Threads {
    reader: Reader,
    writer: Box<dyn FnOnce() + Send>,
}

impl Threads {
    /// Starts both. What the kernel has said by now keeps them busy for a moment.
    pub fn start(self) -> Result<()> {
        let Self { reader, writer } = self;
        spawn("log-read", move || reader.run())?;
        spawn("log-write", writer)
    }
}

impl Log {
    /// Makes the pipes that the services write to, and the threads that read them.
    ///
    /// `file_max` is the size in bytes of each of the two files of a unit.
    pub fn new<const N: usize>(
        services: [&'static str; N],
        to_console: bool,
        file_max: u64,
    ) -> Result<(Self, Threads, [OwnedFd; N])> {
        let boot = boot_id();
        let file = |unit: &str| Box::new(LogFile::new(Path::new(FOLDER), unit, file_max, &boot));
        let units = services.iter().map(|name| Unit::service(name, file(name), to_console));
        let kernel = [KERNEL, INIT].map(|name| Unit::stamped(name, file(name)));
        let units = units.chain(kernel).collect();
        let before = move || {
            // Without the list, journalctl counts only this boot.
            let recorded = file::record_boot(Path::new(FOLDER), &boot);
            let _ = crate::console::kmsg::warn_on_error(recorded.context("record the boot"));
        };
        Self::writing_to(services, units, reader::open_kernel_log(), before)
    }

    /// The same with other places to write to, for tests and benchmarks; `before` runs on the
    /// writer's thread.
    pub fn writing_to<const N: usize>(
        services: [&'static str; N],
        units: Vec<Unit>,
        kernel: Option<OwnedFd>,
        before: impl FnOnce() + Send + 'static,
    ) -> Result<(Self, Threads, [OwnedFd; N])> {
        let shared = Shared::new(N);
        let mut readers = Vec::new();
        let mut writers = Vec::new();
        for _ in services {
            let (reader, writer) = reader::pipe()?;
            readers.push(reader);
            writers.push(writer);
        }
        let reader = Reader::new(Arc::clone(&shared), services.to_vec(), readers, kernel);
        let work = Arc::clone(&shared);
        let writer = Box::new(move || {
            before();
            writer::run(&work, units);
        });
        let writers = <[OwnedFd; N]>::try_from(writers);
        let writers = writers.map_err(|_| anyhow::anyhow!("one pipe per service"))?;
        Ok((Self(shared), Threads { reader, writer }, writers))
    }

    /// What this service writes from now on is from this process.
    pub fn started(&self, service: usize, process: u32) {
        if let Some(ring) = self.0.lock().rings.get_mut(service) {
            ring.set_process(process);
        }
    }

    /// Asks the writer to write what it has, to close its files and to end, so that `/var` can be
    /// unmounted. Does not wait for it.
    pub fn close(&self) {
        // Under the lock, or the writer could look just before and sleep just after.
        let state = self.0.lock();
        self.0.closing.store(true, Ordering::Relaxed);
        drop(state);
        self.0.changed.notify_all();
    }
}

/// The id of this boot: a UUID, random at each boot.
#[must_use]
pub fn boot_id() -> String {
    std::fs::read_to_string(BOOT_ID).unwrap_or_default().trim().to_owned()
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<()> {
    let builder = thread::Builder::new().name(name.into()).stack_size(STACK);
    builder.spawn(work).with_context(|| format!("start the thread {name}")).map(drop)
}
