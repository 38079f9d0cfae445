//! Measures the cost of logging for a service: its throughput into the log's pipe, as a ratio to a
//! pipe whose bytes are discarded. Run `cargo bench -p init --bench log`.
//!
//! The child writes lines of 100 bytes, 40 at once, at 100 MB per second, and then as fast as it
//! can, which shows the cost of a burst. The cases alternate, and medians are printed.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use kiln_init::log::file::{LogFile, Sink};
use kiln_init::log::handle::Log;
use kiln_init::log::writer::StreamWriter;
use kiln_init::process::spawn::{self, Child};

/// The number of bytes that the child writes at once.
const BLOCK: usize = 4000;

/// The number of bytes in one measurement.
const TOTAL: usize = 200_000_000;

/// The number of measurements of each case.
const ROUNDS: usize = 5;

/// The bytes per second of a child with a limited rate.
const RATE: usize = 100_000_000;

/// The time limit for one measurement.
const PATIENCE: Duration = Duration::from_mins(2);

/// A disk that accepts no data until the end.
struct Stalled(Receiver<()>);

impl Sink for Stalled {
    fn write(&mut self, _: &[u8]) -> Result<()> {
        let _ = self.0.recv();
        Ok(())
    }
}

/// A disk that is full.
struct Full;

impl Sink for Full {
    fn write(&mut self, _: &[u8]) -> Result<()> {
        bail!("no space left on device")
    }
}

fn main() -> Result<()> {
    for (title, rate) in [("100 MB/s", Some(RATE)), ("as fast as it can", None)] {
        println!("{title}");
        measure(rate)?;
    }
    Ok(())
}

fn measure(pace: Option<usize>) -> Result<()> {
    let folder = tempfile::tempdir().context("cannot make a folder")?;
    let mut cases: [(&str, Vec<f64>); 4] =
        ["thrown away", "stalled disk", "full disk", "files"].map(|name| (name, Vec::new()));
    for _ in 0..ROUNDS {
        for (name, found) in &mut cases {
            found.push(match *name {
                "thrown away" => baseline(pace)?,
                "stalled disk" => {
                    let (stop, stalled): (Sender<()>, _) = channel();
                    let rate = logged(Box::new(Stalled(stalled)), pace)?;
                    drop(stop);
                    rate
                }
                "full disk" => logged(Box::new(Full), pace)?,
                _ => logged(Box::new(LogFile::new(folder.path(), "x", 8 << 20, "boot")), pace)?,
            });
        }
    }
    let base = median(&mut cases[0].1);
    for (name, mut rates) in cases {
        let rate = median(&mut rates);
        println!("{name:<14}{:>8.0} MB/s{:>8.2}", rate / 1e6, rate / base);
    }
    Ok(())
}

/// Returns the child's rate in bytes per second when its output is read and discarded.
fn baseline(pace: Option<usize>) -> Result<f64> {
    let (reader, writer) = io::pipe().context("cannot make a pipe")?;
    let thread = std::thread::spawn(move || {
        let mut bytes = vec![0; 64 * 1024];
        while rustix::io::read(&reader, &mut bytes).is_ok_and(|length| length > 0) {}
    });
    let rate = time_child(&writer.into(), pace)?;
    thread.join().ok().context("the baseline's reader panicked")?;
    Ok(rate)
}

fn logged(sink: Box<dyn Sink>, pace: Option<usize>) -> Result<f64> {
    let streams = vec![StreamWriter::service("x", sink, false)];
    let (log, threads, [pipe]) = Log::writing_to(["x"], streams, None, || ())?;
    threads.start()?;
    let rate = time_child(&pipe, pace)?;
    log.close();
    Ok(rate)
}

/// Returns the child's rate. It takes the pipe by reference, because the log's reader waits for no
/// end of file.
fn time_child(pipe: &OwnedFd, pace: Option<usize>) -> Result<f64> {
    let block = [&[b'x'; 99][..], b"\n"].concat().repeat(BLOCK / 100);
    let fd = pipe.as_raw_fd();
    // These are borrowed, because freeing memory in the child could wait for a lock of another
    // thread.
    let work = || {
        let begin = Instant::now();
        for at in 0..TOTAL / BLOCK {
            // Waits until the block is due.
            while pace.is_some_and(|pace| due(at, pace) > begin.elapsed()) {
                std::thread::sleep(Duration::from_micros(100));
            }
            // SAFETY: the block is valid for its length, and the descriptor is the child's copy.
            if unsafe { libc::write(fd, block.as_ptr().cast(), block.len()) } < 0 {
                return 1;
            }
        }
        0
    };
    let begin = Instant::now();
    // SAFETY: the closure makes system calls only, on memory made before.
    let child: Child = unsafe { spawn::helper(work) }?;
    let status = child.wait(PATIENCE);
    let seconds = begin.elapsed().as_secs_f64();
    if status != Some(0) {
        bail!("the child ended with {status:?}");
    }
    Ok(f64::from(u32::try_from(TOTAL)?) / seconds)
}

/// Returns the time from the start at which a block is due.
fn due(block: usize, pace: usize) -> Duration {
    Duration::from_nanos((block * BLOCK) as u64 * 1000 / (pace as u64 / 1_000_000))
}

fn median(rates: &mut [f64]) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}
