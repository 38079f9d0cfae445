//! The guest's serial console: lines with the host's time, the kernel's time and their meaning.
//!
//! Firmware, the kernel and PID 1 all write here. A thread reads the lines as they come, so that the
//! guest never waits for the builder. Each reader has a cursor of its own.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use kiln_contract::console::{Event, TAG};

/// The largest number of lines kept. A boot writes a few hundred; a guest may flood its console.
const LINES_MAX: usize = 20_000;

/// The largest number of bytes kept of one line.
const LINE_BYTES_MAX: usize = 4096;

/// Texts of a kernel that has crashed. A soft lockup is not among them, because a busy host under
/// emulation causes them too.
const FATAL: [&str; 4] = ["Kernel panic", "Oops:", "kernel BUG at", "Unable to handle kernel"];

/// One line of the console.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// The time on the host's clock since QEMU's start.
    pub at: Duration,
    /// The time on the kernel's clock (`printk.time`) since the kernel's start.
    pub stamp: Option<Duration>,
    /// The text after the timestamp, without control characters.
    pub text: String,
}

/// The console of one running machine.
#[derive(Debug, Clone)]
pub struct Console(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    lines: VecDeque<Line>,
    /// The number of lines that were dropped at the front.
    dropped: usize,
    ended: bool,
    /// True while the console is not read, so that new output stays in the pipe.
    stopped: bool,
}

/// The lines after a reader's cursor.
#[derive(Debug)]
pub struct News {
    /// The new lines; some are missing if the reader was slower than [`LINES_MAX`] allows.
    pub lines: Vec<Line>,
    /// The cursor for the next call.
    pub cursor: usize,
    /// True if the console is closed and all its lines were read.
    pub ended: bool,
}

impl Line {
    /// Parses one line of raw output.
    #[must_use]
    pub fn parse(at: Duration, raw: &[u8]) -> Self {
        let text = printable(&String::from_utf8_lossy(&raw[..raw.len().min(LINE_BYTES_MAX)]));
        match stamp(&text) {
            Some((stamp, rest)) => Self { at, stamp: Some(stamp), text: rest.to_owned() },
            None => Self { at, stamp: None, text },
        }
    }

    /// Returns the event of PID 1 that the line announces, if any.
    #[must_use]
    pub fn event(&self) -> Option<Event> {
        Event::parse(self.text.strip_prefix(TAG)?)
    }

    /// True if PID 1 wrote the line.
    #[must_use]
    pub fn is_init(&self) -> bool {
        self.text.starts_with(TAG)
    }

    /// True if the line reports a crash of the kernel.
    #[must_use]
    pub fn is_fatal(&self) -> bool {
        FATAL.iter().any(|text| self.text.contains(text))
    }

    /// Formats the line as the kernel writes it.
    #[must_use]
    pub fn shown(&self) -> String {
        match self.stamp {
            Some(stamp) => format!("[{:>12.6}] {}", stamp.as_secs_f64(), self.text),
            None => self.text.clone(),
        }
    }
}

/// Splits `[    1.234567] text`.
fn stamp(text: &str) -> Option<(Duration, &str)> {
    let (inner, rest) = text.strip_prefix('[')?.split_once(']')?;
    let (seconds, micros) = inner.trim_start().split_once('.')?;
    if micros.len() != 6 || !micros.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let stamp =
        Duration::from_secs(seconds.parse().ok()?) + Duration::from_micros(micros.parse().ok()?);
    Some((stamp, rest.strip_prefix(' ').unwrap_or(rest)))
}

/// Removes control characters and the escape sequences (ECMA-48) with which firmware clears the screen.
fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if c == '\x1b' {
            if chars.next_if_eq(&'[').is_some() {
                // A control sequence ends with a byte from @ to ~.
                chars.by_ref().find(|c| ('@'..='~').contains(c));
            } else {
                chars.next();
            }
        } else if c == '\t' || !c.is_control() {
            out.push(c);
        }
    }
    out.trim_end().to_owned()
}

impl Console {
    /// Starts reading; `start` is the time of QEMU's start.
    pub fn read(from: impl Read + Send + 'static, start: Instant) -> Self {
        let console = Self::new();
        let shared = console.clone();
        thread::spawn(move || {
            shared.take_all(from, start);
            shared.end();
        });
        console
    }

    fn new() -> Self {
        Self(Arc::new(Shared { state: Mutex::default(), changed: Condvar::new() }))
    }

    fn take_all(&self, from: impl Read, start: Instant) {
        let mut from = BufReader::new(from);
        let mut raw = Vec::new();
        // An endless line is cut, so that a guest cannot fill the host's memory.
        while matches!(
            from.by_ref().take(LINE_BYTES_MAX as u64).read_until(b'\n', &mut raw),
            Ok(1..)
        ) {
            self.wait_while_stopped();
            let line = Line::parse(start.elapsed(), &raw);
            if !line.text.is_empty() {
                self.push(line);
            }
            raw.clear();
        }
    }

    fn push(&self, line: Line) {
        let mut state = self.state();
        if state.lines.len() == LINES_MAX {
            state.lines.pop_front();
            state.dropped += 1;
        }
        state.lines.push_back(line);
        drop(state);
        self.0.changed.notify_all();
    }

    /// Resumes or pauses reading; meanwhile the pipe fills and the guest's serial port blocks.
    pub fn read_on(&self, on: bool) {
        self.state().stopped = !on;
        self.0.changed.notify_all();
    }

    fn wait_while_stopped(&self) {
        let stopped = |state: &mut State| state.stopped;
        let waited = self.0.changed.wait_while(self.state(), stopped);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }

    fn end(&self) {
        self.state().ended = true;
        self.0.changed.notify_all();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the lines from `cursor` on, where 0 is the first line; waits up to `patience` for one.
    pub fn news(&self, cursor: usize, patience: Duration) -> News {
        let nothing =
            |state: &mut State| !state.ended && state.dropped + state.lines.len() <= cursor;
        let waited = self.0.changed.wait_timeout_while(self.state(), patience, nothing);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        let skip = cursor.saturating_sub(state.dropped);
        let lines: Vec<Line> = state.lines.iter().skip(skip).cloned().collect();
        News { lines, cursor: state.dropped + state.lines.len(), ended: state.ended }
    }

    /// Returns the last `count` lines, for an error message.
    pub fn last(&self, count: usize) -> String {
        let state = self.state();
        let skip = state.lines.len().saturating_sub(count);
        let lines: Vec<String> = state.lines.iter().skip(skip).map(Line::shown).collect();
        lines.join("\n")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn line(raw: &str) -> Line {
        Line::parse(Duration::from_secs(9), raw.as_bytes())
    }

    #[test]
    fn timestamp_and_event_are_parsed() {
        let line = line("[    3.004211] kiln: stage mounts took 12 ms\r\n");
        assert_eq!(line.stamp, Some(Duration::from_micros(3_004_211)));
        assert_eq!(line.event(), Some(Event::Stage { name: "mounts".into(), millis: 12 }));
        assert_eq!(line.shown(), "[    3.004211] kiln: stage mounts took 12 ms");
    }

    #[test]
    fn a_line_without_a_timestamp_is_unchanged() {
        for raw in ["BdsDxe: starting Boot0001", "[x] y", "[1.5] y", "[", "[    1.00000a] z"] {
            let line = line(raw);
            assert_eq!((line.stamp, line.text.as_str()), (None, raw));
        }
    }

    #[test]
    fn the_firmwares_escape_sequences_are_removed() {
        let raw = "\x1b[2J\x1b[01;01H\x1b[=3hBdsDxe: loading Boot0001\x1bM\r\n";
        assert_eq!(line(raw).text, "BdsDxe: loading Boot0001");
    }

    #[test]
    fn a_crash_of_the_kernel_is_detected() {
        assert!(
            line("[    1.000000] Kernel panic - not syncing: Attempted to kill init!").is_fatal()
        );
        assert!(line("[    1.000000] Oops: general protection fault").is_fatal());
        assert!(!line("[    1.000000] kernel.panic_on_oops = 1").is_fatal());
    }

    #[test]
    fn a_reader_continues_at_its_cursor_and_sees_the_end() {
        let console = Console::new();
        console.take_all(&b"one\n\r\ntwo\nthree"[..], Instant::now());
        let first = console.news(0, Duration::ZERO);
        assert_eq!(
            first.lines.iter().map(|l| l.text.as_str()).collect::<Vec<_>>(),
            ["one", "two", "three"]
        );
        assert!(console.news(first.cursor, Duration::ZERO).lines.is_empty());
        console.end();
        assert!(console.news(first.cursor, Duration::ZERO).ended);
        assert_eq!(console.last(2), "two\nthree");
    }

    #[test]
    fn the_newest_lines_of_a_flood_are_kept() {
        let console = Console::new();
        let lines: Vec<String> = (0..LINES_MAX + 5).map(|n| n.to_string()).collect();
        let flood = lines.join("\n");
        console.take_all(flood.as_bytes(), Instant::now());
        let news = console.news(0, Duration::ZERO);
        assert_eq!(
            (news.lines.len(), news.lines[0].text.as_str(), news.cursor),
            (LINES_MAX, "5", LINES_MAX + 5)
        );
    }

    #[test]
    fn an_endless_line_is_cut() {
        let console = Console::new();
        console.take_all(&vec![b'x'; LINE_BYTES_MAX * 2 + 1][..], Instant::now());
        let lengths: Vec<usize> =
            console.news(0, Duration::ZERO).lines.iter().map(|l| l.text.len()).collect();
        assert_eq!(lengths, [LINE_BYTES_MAX, LINE_BYTES_MAX, 1]);
    }

    proptest! {
        #[test]
        fn a_line_never_has_control_characters(raw: Vec<u8>) {
            let line = Line::parse(Duration::ZERO, &raw);
            prop_assert!(line.text.chars().all(|c| c == '\t' || !c.is_control()));
        }
    }
}
