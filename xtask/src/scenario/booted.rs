//! A machine of a scenario, with its console and its forwarded ports.

use std::fmt;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Error, Result, anyhow, bail};
use kiln_contract::console::Event;

use super::data::Scenario;
use super::instruction::Reset;
use super::rig::PROBE_PORT;
use super::watch::Watch;
use crate::process;
use crate::qemu::{self, End, Forward, LOOK, Page, SILENCE, Vm};

/// The longest time for one instruction while the console still shows new lines, because a node
/// retries forever.
const WAIT_MAX: Duration = Duration::from_mins(15);

/// The longest time for one page of the probe.
const ASK_MAX: Duration = Duration::from_secs(30);

/// The kernel's last line before it halts.
const HALTED: &str = "System halted";

/// The time that a halted machine must stay on. Its watchdog would reset it earlier: after the deadline of
/// a shutdown without grace, 30 s, and another 10 s.
const HALT_TIME: Duration = Duration::from_secs(45);

/// QEMU crashed. This proves nothing about the node, so the scenario runs once more.
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
    /// QEMU.
    pub vm: Vm,
    /// The console so far.
    pub watch: Watch,
    scenario: &'a Scenario,
    forwards: Vec<Forward>,
    cursor: usize,
    /// The time of the last console line.
    alive: Instant,
}

impl<'a> Booted<'a> {
    /// Takes a machine that has just started.
    pub fn new(vm: Vm, forwards: Vec<Forward>, scenario: &'a Scenario) -> Self {
        Self { vm, watch: Watch::default(), scenario, forwards, cursor: 0, alive: Instant::now() }
    }

    /// The URL on the host that leads to a port of the node.
    pub fn url(&self, port: u16, path: &str) -> Result<String> {
        let forward = self.forwards.iter().find(|forward| forward.guest == port);
        let host = forward.with_context(|| format!("port {port} is not forwarded"))?.host;
        Ok(format!("http://127.0.0.1:{host}{path}"))
    }

    /// Reads new console lines; an error if the scenario forbids one of them.
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

    /// Waits until `done` returns true; an error if the node shows no sign of life for too long.
    pub fn wait(&mut self, mut done: impl FnMut(&mut Self) -> Result<bool>) -> Result<()> {
        let start = Instant::now();
        self.alive = start;
        loop {
            process::check_interrupt()?;
            // This comes before the last lines are read, so that `done` sees all of them.
            let end = self.vm.ended()?;
            self.listen()?;
            if done(self)? {
                return Ok(());
            }
            if let Some(end) = end {
                return Err(unexpected(end));
            }
            if self.alive.elapsed() > SILENCE {
                bail!("the console showed nothing for {} s", SILENCE.as_secs());
            }
            if start.elapsed() > WAIT_MAX {
                bail!("it did not happen within {} minutes", WAIT_MAX.as_secs() / 60);
            }
        }
    }

    /// Waits for some time, during which the node must not go down.
    pub fn pass(&mut self, time: Duration) -> Result<()> {
        let start = Instant::now();
        self.wait(|_| Ok(start.elapsed() >= time))
    }

    /// Returns a page of the probe pod as soon as the pod answers.
    pub fn ask(&mut self, path: &str) -> Result<Page> {
        let url = self.url(PROBE_PORT, path)?;
        let mut page = None;
        let mut last = anyhow!("no request was sent");
        let asked = self.wait(|_| {
            page = qemu::get(&url, ASK_MAX).map_err(|error| last = error).ok();
            Ok(page.is_some())
        });
        asked.with_context(|| format!("cannot get {path} from the probe: {last:#}"))?;
        page.context("no page")
    }

    /// Waits until the machine is reset; if by the watchdog, QEMU must report its event.
    pub fn wait_for_reset(&mut self, by: Reset) -> Result<()> {
        if by == Reset::Watchdog {
            self.vm.qmp()?.wait_for_event("WATCHDOG", WAIT_MAX)?;
        }
        match self.vm.wait_for_end(WAIT_MAX)? {
            End::Itself { reason } => Err(Crash(reason).into()),
            End::Guest => self.listen(),
        }
    }

    /// Waits until QEMU exits after the node's last message, and judges the whole console.
    pub fn finish(&mut self) -> Result<()> {
        if let End::Itself { reason } = self.vm.wait_for_end(qemu::AFTER_DOWN)? {
            return Err(Crash(reason).into());
        }
        self.listen()?;
        self.judge()
    }

    /// Waits for the halt after PID 1's last message, and checks that the machine stays on, also after
    /// its watchdog's time.
    pub fn stay_halted(&mut self) -> Result<()> {
        self.wait(|booted| Ok(booted.watch.find(|line| line.text.contains(HALTED))))?;
        self.pass(HALT_TIME)?;
        self.judge()
    }

    /// Judges the console so far.
    pub fn judge(&self) -> Result<()> {
        self.watch.verdict(self.scenario).map_err(|reason| anyhow!(reason))
    }

    /// Waits for PID 1's last message.
    pub fn wait_for_down(&mut self, action: &str) -> Result<()> {
        let down = Event::Down { action: action.to_owned() };
        self.wait(|booted| Ok(booted.watch.find(|line| line.event().as_ref() == Some(&down))))
    }
}

fn unexpected(end: End) -> Error {
    match end {
        End::Itself { reason } => Crash(reason).into(),
        End::Guest => anyhow!("the node went down or was reset"),
    }
}
