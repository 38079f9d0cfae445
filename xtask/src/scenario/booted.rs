//! A machine of a scenario, and what was seen of it.

use std::fmt;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Error, Result, anyhow, bail};
use kiln_contract::console::Event;

use super::PROBE_PORT;
use super::data::{Reset, Scenario};
use super::watch::Watch;
use crate::process;
use crate::qemu::{self, End, Forward, LOOK, Page, SILENCE, Vm};

/// How long one step may take when the console keeps talking: a node retries for ever.
const LIMIT: Duration = Duration::from_mins(15);

/// How long the probe may take for a page.
const ASK: Duration = Duration::from_secs(30);

/// QEMU died, which says nothing about the node; such a scenario is worth another try.
#[derive(Debug)]
pub struct Crash(pub String);

impl fmt::Display for Crash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Crash {}

/// A machine that was started.
pub struct Booted<'a> {
    /// It.
    pub vm: Vm,
    /// What its console said.
    pub watch: Watch,
    scenario: &'a Scenario,
    forwards: Vec<Forward>,
    cursor: usize,
    /// When it last said something.
    alive: Instant,
}

impl<'a> Booted<'a> {
    /// Takes over a machine.
    pub fn new(vm: Vm, forwards: Vec<Forward>, scenario: &'a Scenario) -> Self {
        Self { vm, watch: Watch::default(), scenario, forwards, cursor: 0, alive: Instant::now() }
    }

    /// Where the host asks a port of the node.
    pub fn url(&self, port: u16, path: &str) -> Result<String> {
        let forward = self.forwards.iter().find(|forward| forward.guest == port);
        let host = forward.with_context(|| format!("port {port} is not forwarded"))?.host;
        Ok(format!("http://127.0.0.1:{host}{path}"))
    }

    /// Takes what the console has said; an error if the scenario forbids that.
    pub fn listen(&mut self) -> Result<()> {
        let news = self.vm.console.news(self.cursor, LOOK);
        self.cursor = news.cursor;
        if news.lines.is_empty() {
            if news.ended {
                thread::sleep(LOOK);
            }
            return Ok(());
        }
        self.alive = Instant::now();
        self.watch.take(self.scenario, news.lines).map_or(Ok(()), |reason| bail!(reason))
    }

    /// Waits until `done`, while the node gives signs of life.
    pub fn wait(&mut self, mut done: impl FnMut(&mut Self) -> Result<bool>) -> Result<()> {
        let start = Instant::now();
        self.alive = start;
        loop {
            process::check_interrupt()?;
            // Asked before the last lines are taken, so that none of them is missed.
            let end = self.vm.ended()?;
            self.listen()?;
            if done(self)? {
                return Ok(());
            }
            if let Some(end) = end {
                return Err(unexpected(end));
            }
            if self.alive.elapsed() > SILENCE {
                bail!("the console said nothing for {} s", SILENCE.as_secs());
            }
            if start.elapsed() > LIMIT {
                bail!("not after {} minutes", LIMIT.as_secs() / 60);
            }
        }
    }

    /// Lets time pass on a node that must live.
    pub fn pass(&mut self, time: Duration) -> Result<()> {
        let start = Instant::now();
        self.wait(|_| Ok(start.elapsed() >= time))
    }

    /// A page of the probe pod, as soon as that can be reached.
    pub fn ask(&mut self, path: &str) -> Result<Page> {
        let url = self.url(PROBE_PORT, path)?;
        let mut page = None;
        let mut last = anyhow!("never asked");
        let asked = self.wait(|_| {
            page = qemu::get(&url, ASK).map_err(|error| last = error).ok();
            Ok(page.is_some())
        });
        asked.with_context(|| format!("the probe does not answer {path}: {last:#}"))?;
        page.context("no page")
    }

    /// Waits until the machine is reset; for a watchdog QEMU must name it as the reason.
    pub fn wait_for_reset(&mut self, by: Reset) -> Result<()> {
        if by == Reset::Watchdog {
            self.vm.qmp()?.wait_for_event("WATCHDOG", LIMIT)?;
        }
        match self.vm.wait_for_end(LIMIT)? {
            End::Itself { reason } => Err(Crash(reason).into()),
            End::Guest => self.listen(),
        }
    }

    /// Waits for QEMU's end after the node's last word, and judges the whole console.
    pub fn finish(&mut self) -> Result<()> {
        if let End::Itself { reason } = self.vm.wait_for_end(qemu::AFTER_DOWN)? {
            return Err(Crash(reason).into());
        }
        self.listen()?;
        self.judge()
    }

    /// Judges the console as it is.
    pub fn judge(&self) -> Result<()> {
        self.watch.verdict(self.scenario).map_err(|reason| anyhow!(reason))
    }

    /// Waits for PID 1's last word.
    pub fn wait_for_down(&mut self, action: &str) -> Result<()> {
        let down = Event::Down { action: action.to_owned() };
        self.wait(|booted| Ok(booted.watch.find(|line| line.event().as_ref() == Some(&down))))
    }
}

fn unexpected(end: End) -> Error {
    match end {
        End::Itself { reason } => Crash(reason).into(),
        End::Guest => anyhow!("the node went down, or was reset"),
    }
}
