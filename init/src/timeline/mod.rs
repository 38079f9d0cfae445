//! The times of boot and shutdown as data: a small JSON file (RFC 8259),
//! [`kiln_contract::path::TIMELINE`].
//!
//! [`Timeline`] is pure and bounded: however often services stop and start, it keeps the first and
//! the last [`EVENTS_MAX`] events and counts the others. [`Keeper`] writes the file once containerd
//! is started and after each change. The file is in memory (`/run`) and is renamed into place, so
//! readers always see a complete file.

pub mod counter;
pub mod loader;

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result};
use kiln_base::json;
use kiln_base::replace::{self, Durability};
use kiln_base::time::now as clock;
use kiln_contract::console::Event;
use kiln_contract::path;
use rustix::time::ClockId;

use crate::console::kmsg;
use crate::machine::watchdog;
use crate::timeline::counter::Sample;
use crate::timeline::loader::Times;

/// The number of events kept from the beginning, and of those kept from the end.
pub const EVENTS_MAX: usize = 32;

/// The number of stages kept of the boot, and of those kept of the shutdown. Both have fewer
/// stages.
const STAGES_MAX: usize = 24;

/// Returns the microseconds since the start of the kernel's clock, as in the kernel's log.
#[must_use]
pub fn now() -> u64 {
    u64::try_from(clock(ClockId::Monotonic).as_micros()).unwrap_or_default()
}

/// A stage and its times in microseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// One lower-case word.
    pub name: String,
    /// The time since the start of the kernel's clock.
    pub start: u64,
    /// The duration.
    pub duration: u64,
}

/// An event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// The service and the event, such as `kubelet ready`.
    pub name: String,
    /// Microseconds since the start of the kernel's clock.
    pub at: u64,
}

/// The stages of a boot that is running.
#[derive(Debug)]
pub struct Stages {
    begin: Sample,
    spans: Vec<Span>,
}

impl Stages {
    /// Samples the clocks. Call it in PID 1's first instructions.
    #[must_use]
    pub fn begin() -> Self {
        Self { begin: Sample { ticks: counter::ticks(), micros: now() }, spans: Vec::new() }
    }

    /// Runs a boot stage, reports its duration and records it.
    pub fn run<T>(&mut self, name: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
        watchdog::feed();
        let start = now();
        let value = work().with_context(|| format!("stage {name} failed"))?;
        let duration = now().saturating_sub(start);
        say(name, duration);
        if self.spans.len() < STAGES_MAX {
            self.spans.push(Span { name: name.into(), start, duration });
        }
        Ok(value)
    }
}

fn say(name: &str, micros: u64) {
    kmsg::event(&Event::Stage { name: name.into(), millis: micros / 1000 });
}

/// All times of this boot.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Timeline {
    /// Microseconds from power-on to the kernel's clock, if the processor's counter shows them.
    pub before_kernel: Option<u64>,
    /// The times that a boot loader recorded.
    pub loader: Times,
    /// The time of PID 1's first instruction.
    pub init: u64,
    /// The boot's stages.
    pub stages: Vec<Span>,
    first: Vec<Mark>,
    last: VecDeque<Mark>,
    left_out: u64,
    shutdown: Vec<Span>,
}

impl Timeline {
    /// Records an event. Memory stays bounded.
    pub fn mark(&mut self, mark: Mark) {
        if self.first.len() < EVENTS_MAX {
            return self.first.push(mark);
        }
        if self.last.len() == EVENTS_MAX {
            self.last.pop_front();
            self.left_out = self.left_out.saturating_add(1);
        }
        self.last.push_back(mark);
    }

    /// Records a finished stage of the shutdown.
    pub fn stopped(&mut self, span: Span) {
        if self.shutdown.len() < STAGES_MAX {
            self.shutdown.push(span);
        }
    }

    /// Returns the file's text: one object on one line.
    #[must_use]
    pub fn json(&self) -> String {
        let mut out = String::from("{\"version\":1");
        for (name, micros) in [
            ("before_kernel_us", self.before_kernel),
            ("firmware_us", self.loader.firmware),
            ("loader_us", self.loader.loader),
            ("kernel_us", Some(self.init)),
        ] {
            let micros = micros.map_or_else(|| "null".into(), |micros| micros.to_string());
            // Writing to a String cannot fail, here and below.
            let _ = write!(out, ",\"{name}\":{micros}");
        }
        list(&mut out, "stages", self.stages.iter(), span);
        list(&mut out, "events", self.first.iter().chain(&self.last), |out, mark| {
            let _ = write!(out, "{{\"name\":{},\"at_us\":{}}}", quoted(&mark.name), mark.at);
        });
        let _ = write!(out, ",\"events_left_out\":{}", self.left_out);
        list(&mut out, "shutdown", self.shutdown.iter(), span);
        out.push_str("}\n");
        out
    }
}

fn list<'a, T: 'a>(
    out: &mut String,
    name: &str,
    items: impl Iterator<Item = &'a T>,
    one: impl Fn(&mut String, &T),
) {
    let _ = write!(out, ",\"{name}\":[");
    for (index, item) in items.enumerate() {
        if index > 0 {
            out.push(',');
        }
        one(out, item);
    }
    out.push(']');
}

fn span(out: &mut String, span: &Span) {
    let Span { name, start, duration } = span;
    let _ = write!(
        out,
        "{{\"name\":{},\"start_us\":{start},\"duration_us\":{duration}}}",
        quoted(name)
    );
}

fn quoted(text: &str) -> String {
    let mut out = String::new();
    json::string(&mut out, text);
    out
}

/// The timeline of the running node, and its file.
#[derive(Debug, Default)]
pub struct Keeper {
    timeline: Timeline,
    begin: Option<Sample>,
    /// The current stage of the shutdown.
    open: Option<(&'static str, u64)>,
    /// The start of the shutdown.
    down: Option<u64>,
    file: bool,
}

impl Keeper {
    /// Takes the stages of the boot and writes the file from now on.
    pub fn keep(&mut self, stages: Stages) {
        self.timeline.init = stages.begin.micros;
        self.timeline.stages = stages.spans;
        self.begin = Some(stages.begin);
        self.file = true;
        self.save();
    }

    /// Records an event that happened just now.
    pub fn mark(&mut self, name: String) {
        self.timeline.mark(Mark { name, at: now() });
        self.save();
    }

    /// Computes the time that firmware, loader and the EFI stub took, from the processor's
    /// counter, whose speed is known by now. Returns true for the first call.
    pub fn measure(&mut self) -> bool {
        let later = Sample { ticks: counter::ticks(), micros: now() };
        let Some(begin) = self.begin.take() else { return false };
        self.timeline.before_kernel = counter::before_kernel(begin, later);
        if let Some(micros) = self.timeline.before_kernel {
            kmsg::notice(format_args!("{} ms passed before the kernel", micros / 1000));
        }
        self.save();
        true
    }

    /// Records a boot loader's times.
    pub fn loaded(&mut self, times: Times) {
        self.timeline.loader = times;
        if let (Some(firmware), Some(loader)) = (times.firmware, times.loader) {
            let (firmware, loader) = (firmware / 1000, loader / 1000);
            kmsg::notice(format_args!("firmware took {firmware} ms, boot loader {loader} ms"));
        }
        self.save();
    }

    /// Ends the current stage of the shutdown and begins the next one.
    pub fn enter(&mut self, name: &'static str) {
        let now = self.close();
        self.down.get_or_insert(now);
        self.open = Some((name, now));
        self.save();
    }

    /// Writes no more files, because `/run` is about to be unmounted. Stages still go to the
    /// console.
    pub fn lose_file(&mut self) {
        self.file = false;
    }

    /// Reports the shutdown's duration, just before its last instruction.
    pub fn end(&mut self) {
        let now = self.close();
        say("shutdown", now.saturating_sub(self.down.unwrap_or(now)));
    }

    fn close(&mut self) -> u64 {
        let now = now();
        if let Some((name, start)) = self.open.take() {
            let duration = now.saturating_sub(start);
            say(name, duration);
            self.timeline.stopped(Span { name: name.into(), start, duration });
        }
        now
    }

    /// Writes the file. A failure is only a warning.
    fn save(&self) {
        if self.file {
            let (path, json) = (Path::new(path::TIMELINE), self.timeline.json());
            let saved = replace::write(path, json.as_bytes(), 0o644, Durability::None);
            let _ = kmsg::warn_on_error(saved.context("cannot write the timeline"));
        }
    }
}

#[cfg(test)]
mod tests;
