//! The thread that writes the files. It is the only thread of PID 1 that waits for a disk.

use std::sync::Arc;
use std::time::Instant;

use anyhow::Result;

use super::file::Sink;
use super::kernel::COPY;
use super::line::Stamper;
use super::requests::Sender;
use super::ring::Piece;
use super::shared::{PLACES, Shared, Work};
use super::stamp::Stamp;
use super::unstarted::{KUBELET, Unstarted};
use crate::console::kmsg;
use crate::kubelet::report::Watch;

/// The number of bytes taken from a ring at once. If all of them are newlines, their stamps are 50
/// times as long and still much shorter than a file.
const CHUNK: usize = 4 * 1024;

/// The number of bytes written at once, if that many are waiting.
const BATCH_MAX: usize = 64 * 1024;

/// The shortest time between two warnings about one file, in microseconds, because a full disk
/// fails for hours.
const QUIET: u64 = 60_000_000;

/// The path of one stream from its ring to its file.
pub struct StreamWriter {
    name: &'static str,
    /// Stamps a service's output. Lines of the kernel's log are stamped already.
    stamper: Option<Stamper>,
    sink: Box<dyn Sink>,
    to_console: bool,
    /// Finds the pods that kubelet does not start, in its output.
    unstarted: Option<Unstarted>,
    /// Follows the membership in a cluster in kubelet's output.
    membership: Option<(Watch, Sender)>,
    /// The number of bytes that could not be written.
    lost: u64,
    warned: Option<u64>,
}

impl StreamWriter {
    /// Returns a writer for a service's output.
    #[must_use]
    pub fn service(name: &'static str, sink: Box<dyn Sink>, to_console: bool) -> Self {
        let stamper = Some(Stamper::new(name));
        let unstarted = (name == KUBELET).then(Unstarted::default);
        let membership = None;
        Self { name, stamper, sink, to_console, unstarted, membership, lost: 0, warned: None }
    }

    /// Returns the writer for kubelet's output, which sends the main loop what it finds.
    #[must_use]
    pub fn kubelet(sink: Box<dyn Sink>, to_console: bool, requests: Sender) -> Self {
        let membership = Some((Watch::default(), requests));
        Self { membership, ..Self::service(KUBELET, sink, to_console) }
    }

    /// Returns a writer for lines that are stamped already.
    #[must_use]
    pub fn stamped(name: &'static str, sink: Box<dyn Sink>) -> Self {
        let (stamper, unstarted, membership, to_console) = (None, None, None, false);
        Self { name, stamper, sink, to_console, unstarted, membership, lost: 0, warned: None }
    }

    /// Appends a piece of a ring to a batch of lines.
    fn format(&mut self, piece: Piece, bytes: &[u8], batch: &mut Vec<u8>) {
        if self.to_console {
            self.copy_to_console(bytes);
        }
        let Some(stamper) = &mut self.stamper else {
            if piece.dropped > 0 {
                Stamper::new(self.name).dropped(piece.dropped, piece.stamp, batch);
            }
            return batch.extend_from_slice(bytes);
        };
        if piece.dropped > 0 {
            stamper.dropped(piece.dropped, piece.stamp, batch);
        }
        if !bytes.is_empty() {
            let before = batch.len();
            stamper.feed(bytes, piece.stamp, piece.process, batch);
            self.report_unstarted(&batch[before..]);
            self.report_membership(&batch[before..]);
        }
    }

    /// Reports the pods that kubelet does not start, from whole lines of its log.
    fn report_unstarted(&mut self, lines: &[u8]) {
        let Some(unstarted) = &mut self.unstarted else { return };
        for line in lines.split(|&byte| byte == b'\n') {
            if let Some(event) = unstarted.event(line) {
                kmsg::event(&event);
            }
        }
    }

    /// Reports news of the membership in a cluster, from whole lines of kubelet's log.
    fn report_membership(&mut self, lines: &[u8]) {
        let Some((watch, requests)) = &mut self.membership else { return };
        for line in lines.split(|&byte| byte == b'\n') {
            let news = watch.read(line, Instant::now());
            news.line.iter().for_each(kmsg::notice);
            news.request.into_iter().for_each(|request| requests.send(request));
        }
    }

    fn copy_to_console(&self, bytes: &[u8]) {
        for line in String::from_utf8_lossy(bytes).lines().filter(|line| !line.is_empty()) {
            kmsg::notice(format_args!("{}{COPY}{line}", self.name));
        }
    }

    /// Writes a batch. Bytes that cannot be written are counted, and reported once a write
    /// succeeds.
    fn write(&mut self, batch: &[u8]) {
        if batch.is_empty() {
            return;
        }
        if self.lost > 0 {
            let mut note = Vec::new();
            Stamper::new(self.name).dropped(self.lost, Stamp::now(), &mut note);
            if self.sink.write(&note).is_ok() {
                self.lost = 0;
            }
        }
        let written = self.sink.write(batch);
        if written.is_err() {
            self.lost = self.lost.saturating_add(batch.len() as u64);
        }
        self.report(written);
    }

    fn report(&mut self, written: Result<()>) {
        let Err(error) = written else { return };
        let now = Stamp::now().monotonic;
        if self.warned.is_none_or(|warned| now.saturating_sub(warned) >= QUIET) {
            kmsg::warn(format_args!("cannot log {}: {error:#}", self.name));
            self.warned = Some(now);
        }
    }

    fn finish(&mut self) {
        let mut batch = Vec::new();
        if let Some(stamper) = &mut self.stamper {
            stamper.flush(&mut batch);
        }
        self.write(&batch);
    }
}

/// Writes until [`Shared`] is closing and its rings are empty, then closes the files.
pub(super) fn run(shared: &Arc<Shared>, mut streams: Vec<StreamWriter>) {
    let (mut chunk, mut batch) = (Vec::with_capacity(CHUNK), Vec::with_capacity(BATCH_MAX + CHUNK));
    loop {
        for (index, stream) in streams.iter_mut().enumerate() {
            write_ring(shared, index, stream, &mut chunk, &mut batch);
        }
        if shared.wait_for_work() == Work::Closed {
            streams.iter_mut().for_each(StreamWriter::finish);
            return;
        }
    }
}

/// Writes at most one ring's size, so that every stream has its turn.
fn write_ring(
    shared: &Shared,
    index: usize,
    stream: &mut StreamWriter,
    chunk: &mut Vec<u8>,
    batch: &mut Vec<u8>,
) {
    let mut left = PLACES;
    batch.clear();
    while left > 0 {
        let piece = shared.lock().rings.get_mut(index).and_then(|ring| ring.take(CHUNK, chunk));
        let Some(piece) = piece else { break };
        left = left.saturating_sub(chunk.len().max(1));
        stream.format(piece, chunk, batch);
        if batch.len() >= BATCH_MAX {
            stream.write(batch);
            batch.clear();
        }
    }
    stream.write(batch);
}
