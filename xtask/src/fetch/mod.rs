//! Downloads: the only part of a build that uses the network.
//!
//! A file counts only if it is complete and has the locked digest: it is checked as it comes, read
//! back, and moved into the cache in one step.

mod http;
pub mod mirror;
mod resolve;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};

use crate::cache::Cache;
use crate::digest::Digest;
use crate::lock::{Locked, Origin};
use crate::process;
use crate::progress::{Bytes, Progress, Task};
use http::{Client, Expected, Failure};
use mirror::Mirrors;

/// Downloads at the same time: enough to hide a mirror's latency, and few enough not to burden it.
const WORKERS: usize = 4;

/// The time between two checks for ctrl-C.
const LOOK: Duration = Duration::from_millis(100);

/// The longest time that hanging downloads get to stop after they were cancelled.
const GRACE: Duration = Duration::from_secs(1);

/// The retries of a failed download.
#[derive(Debug, Clone, Copy)]
struct Retry {
    attempts: u32,
    /// The wait before the second attempt, doubled before each further one.
    wait: Duration,
}

const RETRY: Retry = Retry { attempts: 4, wait: Duration::from_millis(500) };

/// One file and its addresses.
#[derive(Debug)]
struct Job {
    file: Locked,
    candidates: Vec<String>,
}

/// The state that all downloads share.
struct Work {
    cache: Cache,
    client: Client,
    retry: Retry,
    /// Dropped when the work ends, although a thread may still hang.
    task: Mutex<Option<Task>>,
    queue: Mutex<Vec<Job>>,
    /// Digests of the running downloads.
    running: Mutex<Vec<Digest>>,
    stop: AtomicBool,
}

/// Downloads the files that the cache lacks, and returns the paths of all.
///
/// Files in the cache are read and hashed; if none is missing, nothing else happens.
pub fn all(files: &[Locked], cache: &Cache, progress: &Progress) -> Result<Vec<PathBuf>> {
    let missing = missing(files, cache)?;
    if !missing.is_empty() {
        let from_pool = missing.iter().any(|file| matches!(file.origin, Origin::Pool { .. }));
        let mirrors = if from_pool { Mirrors::of_host()? } else { Mirrors::default() };
        download(missing, &mirrors, cache, progress, Client::new(), RETRY)?;
    }
    files.iter().map(|file| path(file, cache)).collect()
}

/// Returns the files that the first mirror no longer has.
///
/// Fails if a mirror does not answer.
pub fn gone<'a>(files: &[&'a Locked], progress: &Progress) -> Result<Vec<&'a Locked>> {
    let task = progress.task("look for all pinned files", Some(files.len() as u64));
    let gone = gone_from(files, &Mirrors::of_host()?, &Client::new(), &task)?;
    task.done();
    Ok(gone)
}

fn gone_from<'a>(
    files: &[&'a Locked],
    mirrors: &Mirrors,
    client: &Client,
    task: &Task,
) -> Result<Vec<&'a Locked>> {
    let mut gone = Vec::new();
    for &file in files {
        process::check_interrupt()?;
        let first = mirrors.candidates(&file.origin)?.into_iter().next();
        let first = first.with_context(|| format!("{} has no address", file.name))?;
        if !client.has(&first)? {
            gone.push(file);
        }
        task.advance(1);
    }
    Ok(gone)
}

/// Returns the files that the cache lacks, each once.
fn missing(files: &[Locked], cache: &Cache) -> Result<Vec<Locked>> {
    let mut missing = BTreeMap::new();
    for file in files {
        if cache.download(file.sha256)?.is_none() {
            missing.insert(file.sha256, file.clone());
        }
    }
    Ok(missing.into_values().collect())
}

fn path(file: &Locked, cache: &Cache) -> Result<PathBuf> {
    cache
        .download(file.sha256)?
        .with_context(|| format!("{} is gone from the cache; run the command again", file.name))
}

fn download(
    files: Vec<Locked>,
    mirrors: &Mirrors,
    cache: &Cache,
    progress: &Progress,
    client: Client,
    retry: Retry,
) -> Result<()> {
    let (count, bytes) = (files.len(), files.iter().map(|file| file.size).sum());
    let what = if count == 1 {
        format!("download {}", files[0].name)
    } else {
        format!("download {count} files")
    };
    let mut queue = files
        .into_iter()
        .map(|file| Ok(Job { candidates: mirrors.candidates(&file.origin)?, file }))
        .collect::<Result<Vec<_>>>()?;
    // Threads take files from the end: the largest first, so that a large file is not left for
    // last.
    queue.sort_by_key(|job| job.file.size);
    let work = Arc::new(Work {
        cache: cache.clone(),
        client,
        retry,
        task: Mutex::new(Some(progress.bytes(&what, Some(bytes)))),
        queue: Mutex::new(queue),
        running: Mutex::default(),
        stop: AtomicBool::new(false),
    });
    let result = run(&work, count).with_context(|| format!("cannot {what} ({})", Bytes(bytes)));
    let task = lock(&work.task).take();
    if let (Ok(()), Some(task)) = (&result, task) {
        task.done();
    }
    result
}

/// Starts the workers and waits for them or for ctrl-C.
fn run(work: &Arc<Work>, count: usize) -> Result<()> {
    let (done, results) = mpsc::channel();
    for _ in 0..WORKERS.min(count) {
        let (work, done) = (work.clone(), done.clone());
        std::thread::Builder::new()
            .name("download".to_owned())
            .spawn(move || work.take_jobs(&done))?;
    }
    drop(done);
    let mut first_error = None;
    let mut deadline: Option<Instant> = None;
    loop {
        match results.recv_timeout(LOOK) {
            Ok(Ok(())) | Err(RecvTimeoutError::Timeout) => {}
            Ok(Err(error)) => {
                first_error.get_or_insert(error);
            }
            Err(RecvTimeoutError::Disconnected) => break,
        }
        if first_error.is_none() {
            first_error = process::check_interrupt().err();
        }
        if first_error.is_some() {
            work.stop.store(true, Ordering::Relaxed);
            let deadline = *deadline.get_or_insert_with(|| Instant::now() + GRACE);
            if Instant::now() >= deadline {
                work.abandon();
                break;
            }
        }
    }
    first_error.map_or(Ok(()), Err)
}

impl Work {
    fn take_jobs(&self, done: &Sender<Result<()>>) {
        while let Some(job) = self.next() {
            let sha256 = job.file.sha256;
            lock(&self.running).push(sha256);
            let result = self.fetch(&job);
            lock(&self.running).retain(|running| *running != sha256);
            // The receiver is dropped early only after an error.
            if done.send(result).is_err() {
                return;
            }
        }
    }

    fn next(&self) -> Option<Job> {
        if self.stop.load(Ordering::Relaxed) { None } else { lock(&self.queue).pop() }
    }

    /// Removes the partial files of hanging downloads before the process exits.
    fn abandon(&self) {
        for sha256 in lock(&self.running).iter() {
            self.cache.abandon(*sha256);
        }
    }

    fn fetch(&self, job: &Job) -> Result<()> {
        self.show(|task| task.note(&job.file.name));
        let write = |path: &Path| self.try_candidates(job, path);
        self.cache.store(job.file.sha256, &job.file.name, write).map(|_| ())
    }

    fn try_candidates(&self, job: &Job, path: &Path) -> Result<()> {
        let mut told = Vec::new();
        let mut all_gone = true;
        for url in &job.candidates {
            match self.try_often(url, &job.file, path) {
                Ok(()) => return Ok(()),
                Err(Failure::Local(error)) => return Err(error),
                Err(Failure::Gone(error)) => told.push(error.to_string()),
                Err(Failure::Refused(error)) => {
                    all_gone = false;
                    told.push(format!("refused: {error:#}"));
                }
                Err(Failure::Transient(error)) => {
                    all_gone = false;
                    told.push(format!("{error:#}"));
                }
            }
        }
        Err(anyhow!(told.join("; ")).context(advice(&job.file, all_gone)))
    }

    fn try_often(&self, url: &str, file: &Locked, path: &Path) -> Result<(), Failure> {
        let mut wait = self.retry.wait;
        for attempt in 1.. {
            let mut counted = 0;
            let mut came = |bytes| {
                counted += bytes;
                self.show(|task| task.advance(bytes));
                self.check_stop()
            };
            let expected = Expected { size: file.size, sha256: file.sha256 };
            let result = self.client.get(url, expected, path, &mut came);
            if result.is_err() {
                self.show(|task| task.retreat(counted));
            }
            match result {
                Err(Failure::Transient(error)) if attempt < self.retry.attempts => {
                    self.show(|task| task.note(&format!("{error:#}, trying again")));
                    self.pause(wait).map_err(Failure::Local)?;
                    wait *= 2;
                }
                result => return result,
            }
        }
        unreachable!("the attempts count up to their limit")
    }

    fn show(&self, how: impl FnOnce(&Task)) {
        if let Some(task) = &*lock(&self.task) {
            how(task);
        }
    }

    fn pause(&self, wait: Duration) -> Result<()> {
        let end = Instant::now() + wait;
        while let Some(left) =
            end.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())
        {
            self.check_stop()?;
            std::thread::sleep(left.min(LOOK));
        }
        self.check_stop()
    }

    fn check_stop(&self) -> Result<()> {
        process::check_interrupt()?;
        if self.stop.load(Ordering::Relaxed) {
            bail!("cancelled, because another download failed");
        }
        Ok(())
    }
}

/// Returns the next step after a failed download.
fn advice(file: &Locked, all_gone: bool) -> String {
    let name = &file.name;
    match (&file.origin, all_gone) {
        (Origin::Pool { renew, .. }, true) => format!(
            "{name}, which build.lock pins, has left the mirror; run `{renew}` to pin the mirror's version, or set {} to a mirror of snapshots",
            mirror::SNAPSHOT
        ),
        (Origin::Url(_), true) => {
            format!("{name} is no longer on its server; give its package a new `url` and `sha256`")
        }
        (Origin::Pool { .. }, false) => format!(
            "{name} is not in the cache and cannot be downloaded; connect to the network, or set {} to a mirror that works from here",
            mirror::DEBIAN
        ),
        (Origin::Url(_), false) => {
            format!("{name} is not in the cache and cannot be downloaded; connect to the network")
        }
    }
}

/// A panic in another thread leaves these lists intact.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
