//! Both threads together, with a disk that a test can stop.

use std::io::Write;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use anyhow::{Result, bail};

use super::file::Sink;
use super::handle::Log;
use super::line::{Line, parse};
use super::writer::StreamWriter;

/// The time limit for events that are immediate unless something is broken.
const PATIENCE: Duration = Duration::from_mins(1);

/// A disk that accepts no data until the test releases it.
struct Disk {
    go: Receiver<()>,
    running: bool,
    written: Sender<Vec<u8>>,
}

impl Sink for Disk {
    fn write(&mut self, lines: &[u8]) -> Result<()> {
        if !self.running {
            // This also continues if the test ended early.
            let _ = self.go.recv();
            self.running = true;
        }
        let _ = self.written.send(lines.to_vec());
        Ok(())
    }
}

/// A disk that is full for a number of writes.
struct Full {
    failures: u32,
    written: Sender<Vec<u8>>,
}

impl Sink for Full {
    fn write(&mut self, lines: &[u8]) -> Result<()> {
        if self.failures > 0 {
            self.failures -= 1;
            bail!("no space left");
        }
        let _ = self.written.send(lines.to_vec());
        Ok(())
    }
}

fn texts(lines: &[u8]) -> Vec<(String, String)> {
    let entry = |line: &[u8]| match parse(line)? {
        Line::Text(entry) => Some((
            String::from_utf8_lossy(entry.source).into_owned(),
            String::from_utf8_lossy(entry.text).into_owned(),
        )),
        Line::Boot(_) => None,
    };
    lines.split(|&byte| byte == b'\n').filter_map(entry).collect()
}

/// Returns the number of missing bytes that a line reports.
fn dropped(text: &str) -> Option<u64> {
    let rest = text.strip_prefix("kiln: ")?;
    rest.strip_suffix(" bytes of output dropped here")?.parse().ok()
}

/// Collects all lines until the log has closed its files.
fn read_all(written: &Receiver<Vec<u8>>) -> Vec<(String, String)> {
    let mut all = Vec::new();
    while let Ok(lines) = written.recv_timeout(PATIENCE) {
        all.extend_from_slice(&lines);
    }
    texts(&all)
}

#[test]
fn a_service_does_not_wait_for_a_disk_that_stalls_and_every_byte_is_written_or_counted() {
    let (go, disk) = channel();
    let (sender, written) = channel();
    let sink = Disk { go: disk, running: false, written: sender };
    let streams = vec![StreamWriter::service("x", Box::new(sink), false)];
    let (log, threads, [pipe]) = Log::writing_to(["x"], streams, None, || ()).unwrap();
    threads.start().unwrap();
    log.started(0, 7);
    // Much more than the ring and the pipe hold together.
    let lines = 200_000_u64;
    let (done, service) = channel();
    std::thread::spawn(move || {
        let mut pipe = std::fs::File::from(pipe);
        for line in 0..lines {
            pipe.write_all(format!("{line:063}\n").as_bytes()).unwrap();
        }
        done.send(pipe).unwrap();
    });
    let pipe = service.recv_timeout(PATIENCE).expect("the service waits for the disk");
    go.send(()).unwrap();
    // The pipe must be empty before closing, because closing discards later output.
    wait_until_empty(&pipe);
    log.close();
    let found = read_all(&written);
    assert!(found.iter().all(|(source, _)| source == "x[7]"));
    let kept: u64 = found
        .iter()
        .filter(|(_, text)| dropped(text).is_none())
        .map(|(_, text)| text.len() as u64)
        .sum();
    let ends = found.iter().filter(|(_, text)| text.len() == 63).count() as u64;
    let lost: u64 = found.iter().filter_map(|(_, text)| dropped(text)).sum();
    assert!(lost > 0);
    assert!((kept + lost).abs_diff(lines * 64) <= ends + 64, "{kept} + {lost} of {}", lines * 64);
}

/// Waits until the pipe is empty, by polling, because the kernel has no event for this.
fn wait_until_empty(pipe: &std::fs::File) {
    while rustix::io::ioctl_fionread(pipe).unwrap() > 0 {
        std::thread::yield_now();
    }
}

/// Returns a log of one service on a disk that is full for the first writes, with its pipe and its
/// lines.
fn log_to_disk(failures: u32) -> (Log, std::fs::File, Receiver<Vec<u8>>) {
    let (sender, written) = channel();
    let sink = Full { failures, written: sender };
    let streams = vec![StreamWriter::service("x", Box::new(sink), false)];
    let (log, threads, [pipe]) = Log::writing_to(["x"], streams, None, || ()).unwrap();
    threads.start().unwrap();
    (log, pipe.into(), written)
}

#[test]
fn bytes_refused_by_a_full_disk_are_counted_once_it_has_room() {
    let (log, mut pipe, written) = log_to_disk(1);
    pipe.write_all(b"lost\n").unwrap();
    let mut found = Vec::new();
    while found.is_empty() {
        pipe.write_all(b"kept\n").unwrap();
        found = written
            .recv_timeout(Duration::from_millis(1))
            .map(|lines| texts(&lines))
            .unwrap_or_default();
    }
    log.close();
    assert!(dropped(&found[0].1).unwrap() >= 40, "{found:?}");
}

#[test]
fn output_written_before_closing_is_in_the_file() {
    let (log, mut pipe, written) = log_to_disk(0);
    pipe.write_all(b"first\nlast, without an end").unwrap();
    wait_until_empty(&pipe);
    log.close();
    let found: Vec<_> = read_all(&written).into_iter().map(|(_, text)| text).collect();
    assert_eq!(found, ["first", "last, without an end"]);
}
