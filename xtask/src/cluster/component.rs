//! One program of the control plane: a child with its log.

use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::process::{self, Command, Running};
use crate::qemu::{LOOK, get};

/// Lines of a program's log that an error repeats.
const LOG_LINES: usize = 15;

/// The longest time until a program is ready; on a busy host, etcd and the API server need a minute.
const READY_MAX: Duration = Duration::from_mins(5);

/// The longest time for one answer to the question whether a program is ready.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// The longest time for a program to stop; afterwards it is killed, which costs no data.
///
/// The API server alone takes longer, because it waits for requests that nodes have not ended.
const STOP_MAX: Duration = Duration::from_secs(5);

/// A running program.
#[derive(Debug)]
pub struct Component {
    /// Its name, for people.
    pub name: &'static str,
    running: Running,
    log: PathBuf,
}

impl Component {
    /// Starts the program with its output at the end of `NAME.log` in `logs`.
    ///
    /// It has a process group of its own, because ctrl-C must stop the nodes first.
    pub fn start(name: &'static str, command: Command, logs: &Path) -> Result<Self> {
        let log = logs.join(format!("{name}.log"));
        let file = OpenOptions::new().create(true).append(true).open(&log);
        let file = file.with_context(|| format!("cannot write {}", log.display()))?;
        let both = file.try_clone().context("cannot duplicate a descriptor")?;
        let running = command.own_group().output_to(file.into(), both.into()).spawn()?;
        Ok(Self { name, running, log })
    }

    /// Fails if the program has ended by itself.
    pub fn check(&mut self) -> Result<()> {
        let Some(status) = self.running.try_wait()? else { return Ok(()) };
        bail!("{} ended: {status}; the end of {}:\n{}", self.name, self.log.display(), self.tail())
    }

    /// Waits until this URL answers with 200.
    pub fn wait_until_ready(&mut self, url: &str) -> Result<()> {
        let until = Instant::now() + READY_MAX;
        let mut last = String::new();
        loop {
            process::check_interrupt()?;
            match get(url, ANSWER_MAX) {
                Ok(page) if page.status == 200 => return Ok(()),
                Ok(page) => last = format!("status {}: {}", page.status, page.body.trim()),
                Err(error) => last = if last.is_empty() { format!("{error:#}") } else { last },
            }
            self.check()?;
            ensure!(
                Instant::now() < until,
                "{} is not ready after {} s ({last}); the end of {}:\n{}",
                self.name,
                READY_MAX.as_secs(),
                self.log.display(),
                self.tail()
            );
            thread::sleep(LOOK);
        }
    }

    /// Stops the program, and kills it if it takes too long.
    pub fn stop(mut self) -> Result<()> {
        if self.running.try_wait()?.is_some() {
            return Ok(());
        }
        self.running.terminate()?;
        let until = Instant::now() + STOP_MAX;
        while self.running.try_wait()?.is_none() && Instant::now() < until {
            thread::sleep(LOOK);
        }
        // It is killed when it is dropped.
        Ok(())
    }

    fn tail(&self) -> String {
        // The log is only a detail of an error message, which is correct without it.
        let log = fs::read(&self.log).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
    }
}
