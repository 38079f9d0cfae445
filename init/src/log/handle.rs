//! The main loop's end of the log.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;

use anyhow::{Context, Result};

use super::file::{self, LogFile};
use super::reader::{self, Reader};
use super::requests::Sender;
use super::shared::Shared;
use super::stream::{FOLDER, INIT, KERNEL, boot_id};
use super::unstarted::KUBELET;
use super::writer::{self, StreamWriter};
use crate::console::kmsg;
use crate::kernel::beneath::Folder;

/// The size of the threads' stacks. Large buffers are on the heap.
const STACK: usize = 64 * 1024;

/// The main loop's end of the log.
#[derive(Debug)]
pub struct Log(Arc<Shared>);

/// The two threads before their start.
pub struct Threads {
    reader: Reader,
    writer: Box<dyn FnOnce() + Send>,
}

impl Threads {
    /// Starts both threads. Reading the kernel's log so far keeps them busy for a moment.
    pub fn start(self) -> Result<()> {
        let Self { reader, writer } = self;
        spawn("log-read", move || reader.run())?;
        spawn("log-write", writer)
    }
}

impl Log {
    /// Makes the pipes that the services write to, and the threads that read them.
    ///
    /// `file_max` is the size limit in bytes of each of the two files of a stream. What kubelet's
    /// log asks for goes to `requests`.
    pub fn new<const N: usize>(
        services: [&'static str; N],
        to_console: bool,
        file_max: u64,
        requests: Sender,
    ) -> Result<(Self, Threads, [OwnedFd; N])> {
        let boot = boot_id();
        let file =
            |stream: &str| Box::new(LogFile::new(Path::new(FOLDER), stream, file_max, &boot));
        let mut requests = Some(requests);
        let streams = services.iter().map(|name| match requests.take_if(|_| *name == KUBELET) {
            Some(requests) => StreamWriter::kubelet(file(name), to_console, requests),
            None => StreamWriter::service(name, file(name), to_console),
        });
        let kernel = [KERNEL, INIT].map(|name| StreamWriter::stamped(name, file(name)));
        let streams = streams.chain(kernel).collect();
        let before = move || {
            // If this fails, journalctl knows only this boot.
            let folder = Folder::open(Path::new(FOLDER));
            let recorded = folder.and_then(|folder| file::record_boot(&folder, &boot));
            let _ = kmsg::warn_on_error(recorded.context("cannot record the boot"));
        };
        Self::writing_to(services, streams, reader::open_kernel_log(), before)
    }

    /// Like [`Self::new`], with other destinations, for tests and benchmarks. `before` runs on the
    /// writer's thread.
    pub fn writing_to<const N: usize>(
        services: [&'static str; N],
        streams: Vec<StreamWriter>,
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
            writer::run(&work, streams);
        });
        let writers = <[OwnedFd; N]>::try_from(writers);
        let writers = writers.map_err(|_| anyhow::anyhow!("one pipe per service"))?;
        Ok((Self(shared), Threads { reader, writer }, writers))
    }

    /// Attributes the service's output from now on to this process.
    pub fn started(&self, service: usize, process: u32) {
        if let Some(ring) = self.0.lock().rings.get_mut(service) {
            ring.set_process(process);
        }
    }

    /// Asks the writer to write the remaining lines, close its files and exit, so that `/var` can
    /// be unmounted. Does not wait for it.
    pub fn close(&self) {
        // Set under the lock, so that the writer cannot check it just before and sleep just after.
        let state = self.0.lock();
        self.0.closing.store(true, Ordering::Relaxed);
        drop(state);
        self.0.changed.notify_all();
    }
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<()> {
    let builder = thread::Builder::new().name(name.into()).stack_size(STACK);
    builder.spawn(work).with_context(|| format!("cannot start the thread {name}")).map(drop)
}
