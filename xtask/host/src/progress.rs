//! Progress: the running tasks, how far they are and how long they took.
//!
//! A terminal shows bars. Elsewhere a task writes one line when it starts, one when it ends, and
//! one every ten seconds in between, so that a log never stays silent. Several tasks may run at the
//! same time.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

/// The longest silence of a task without a terminal.
const SILENCE: Duration = Duration::from_secs(10);

/// The time between two checks for overdue lines.
const LOOK: Duration = Duration::from_secs(1);

/// The time between two turns of a spinner.
const SPIN: Duration = Duration::from_millis(120);

/// The display of progress. It is cheap to clone and may be used from any thread.
#[derive(Debug, Clone)]
pub struct Progress(Display);

#[derive(Debug, Clone)]
enum Display {
    Bars(MultiProgress),
    Lines(Arc<Lines>),
}

/// A running task, which ends when this value is dropped.
#[derive(Debug)]
pub struct Task {
    label: String,
    started: Instant,
    done: bool,
    display: TaskDisplay,
}

#[derive(Debug)]
enum TaskDisplay {
    Bar(MultiProgress, ProgressBar),
    Line(Arc<Lines>, u64),
}

/// The unit that a task counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Counted {
    Steps,
    Bytes,
}

struct Lines(Mutex<State>);

struct State {
    out: Box<dyn Write + Send>,
    tasks: BTreeMap<u64, Line>,
    next: u64,
}

struct Line {
    label: String,
    counted: Counted,
    position: u64,
    total: Option<u64>,
    note: String,
    started: Instant,
    spoke: Instant,
}

impl Progress {
    /// Returns bars if standard error is a terminal, and lines otherwise.
    #[must_use]
    pub fn new() -> Self {
        if io::stderr().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
        {
            return Self(Display::Bars(MultiProgress::with_draw_target(
                ProgressDrawTarget::stderr(),
            )));
        }
        Self::lines(Box::new(io::stderr()))
    }

    /// Returns a display that shows nothing, for tests.
    #[must_use]
    pub fn hidden() -> Self {
        Self::lines(Box::new(io::sink()))
    }

    fn lines(out: Box<dyn Write + Send>) -> Self {
        let lines = Arc::new(Lines(Mutex::new(State { out, tasks: BTreeMap::new(), next: 0 })));
        speak_up(Arc::downgrade(&lines));
        Self(Display::Lines(lines))
    }

    /// Starts a task that counts steps, or nothing.
    #[must_use]
    pub fn task(&self, label: &str, total: Option<u64>) -> Task {
        self.start(label, total, Counted::Steps)
    }

    /// Starts a task that counts bytes.
    #[must_use]
    pub fn bytes(&self, label: &str, total: Option<u64>) -> Task {
        self.start(label, total, Counted::Bytes)
    }

    /// Writes a line of its own, above the bars.
    pub fn message(&self, text: &str) {
        match &self.0 {
            Display::Bars(bars) => line_above(bars, text),
            Display::Lines(lines) => lines.state().say(format_args!("{text}")),
        }
    }

    fn start(&self, label: &str, total: Option<u64>, counted: Counted) -> Task {
        let display = match &self.0 {
            Display::Bars(bars) => {
                let bar = bars.add(total.map_or_else(ProgressBar::no_length, ProgressBar::new));
                bar.set_style(style(total, counted));
                bar.set_prefix(label.to_owned());
                bar.enable_steady_tick(SPIN);
                TaskDisplay::Bar(bars.clone(), bar)
            }
            Display::Lines(lines) => TaskDisplay::Line(
                lines.clone(),
                lines.state().start(label, total, counted, Instant::now()),
            ),
        };
        Task { label: label.to_owned(), started: Instant::now(), done: false, display }
    }
}

impl Default for Progress {
    fn default() -> Self {
        Self::new()
    }
}

impl Task {
    /// Adds `steps` (or bytes) to the count.
    pub fn advance(&self, steps: u64) {
        match &self.display {
            TaskDisplay::Bar(_, bar) => bar.inc(steps),
            TaskDisplay::Line(lines, id) => {
                lines.state().change(*id, |line| line.position += steps);
            }
        }
    }

    /// Subtracts `steps` (or bytes) from the count, because work is repeated.
    pub fn retreat(&self, steps: u64) {
        match &self.display {
            TaskDisplay::Bar(_, bar) => bar.dec(steps),
            TaskDisplay::Line(lines, id) => {
                lines
                    .state()
                    .change(*id, |line| line.position = line.position.saturating_sub(steps));
            }
        }
    }

    /// Shows the current item: a file, a crate, a Go package.
    pub fn note(&self, note: &str) {
        match &self.display {
            TaskDisplay::Bar(_, bar) => bar.set_message(note.to_owned()),
            TaskDisplay::Line(lines, id) => {
                lines.state().change(*id, |line| note.clone_into(&mut line.note));
            }
        }
    }

    /// Ends the task and marks it as done. A task that is only dropped shows just its duration,
    /// because it may have failed.
    pub fn done(mut self) {
        self.done = true;
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        let word = if self.done { "done in" } else { "took" };
        let text = format!("{}: {word} {}", self.label, Seconds(self.started.elapsed()));
        match &self.display {
            TaskDisplay::Bar(bars, bar) => {
                bar.finish_and_clear();
                bars.remove(bar);
                line_above(bars, &text);
            }
            TaskDisplay::Line(lines, id) => lines.state().end(*id, &text),
        }
    }
}

impl Lines {
    /// A panic in another thread leaves the state intact, because every change is a single
    /// assignment.
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Lines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Lines")
    }
}

impl State {
    fn start(&mut self, label: &str, total: Option<u64>, counted: Counted, now: Instant) -> u64 {
        self.say(format_args!("{label}"));
        let id = self.next;
        self.next += 1;
        let line = Line {
            label: label.to_owned(),
            counted,
            position: 0,
            total,
            note: String::new(),
            started: now,
            spoke: now,
        };
        self.tasks.insert(id, line);
        id
    }

    fn change(&mut self, id: u64, change: impl FnOnce(&mut Line)) {
        if let Some(line) = self.tasks.get_mut(&id) {
            change(line);
        }
    }

    fn end(&mut self, id: u64, text: &str) {
        self.tasks.remove(&id);
        self.say(format_args!("{text}"));
    }

    /// Writes a line for each task that has been silent for too long.
    fn speak_up(&mut self, now: Instant) {
        let due = self.tasks.values_mut().filter(|line| now.duration_since(line.spoke) >= SILENCE);
        let texts: Vec<String> = due
            .map(|line| {
                line.spoke = now;
                line.text(now)
            })
            .collect();
        for text in texts {
            self.say(format_args!("{text}"));
        }
    }

    fn say(&mut self, text: fmt::Arguments<'_>) {
        // A closed standard error does not stop the work.
        let _ = self.out.write_all(format!("{text}\n").as_bytes());
        let _ = self.out.flush();
    }
}

impl Line {
    fn text(&self, now: Instant) -> String {
        let show = |count: u64| match self.counted {
            Counted::Steps => count.to_string(),
            Counted::Bytes => Bytes(count).to_string(),
        };
        let mut parts = vec![Seconds(now.duration_since(self.started)).to_string()];
        match self.total {
            Some(total) => parts.push(format!("{} of {}", show(self.position), show(total))),
            None if self.position > 0 => parts.push(show(self.position)),
            None => {}
        }
        if !self.note.is_empty() {
            parts.push(self.note.clone());
        }
        format!("{}: {}", self.label, parts.join(", "))
    }
}

/// A duration for people: `0.4 s`, `12 s`, `2 min 5 s`.
#[derive(Debug, Clone, Copy)]
pub struct Seconds(pub Duration);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        match seconds {
            0..10 => write!(f, "{:.1} s", self.0.as_secs_f64()),
            10..60 => write!(f, "{seconds} s"),
            _ => write!(f, "{} min {} s", seconds / 60, seconds % 60),
        }
    }
}

/// A size for people: `12 B`, `3.4 KiB`, `61.0 MiB`.
#[derive(Debug, Clone, Copy)]
pub struct Bytes(pub u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
        match units.into_iter().find(|(unit, _)| self.0 >= *unit) {
            Some((unit, name)) => {
                write!(f, "{}.{} {name}", self.0 / unit, self.0 % unit * 10 / unit)
            }
            None => write!(f, "{} B", self.0),
        }
    }
}

/// Starts a thread that reports on silent tasks until the display is dropped.
fn speak_up(lines: Weak<Lines>) {
    let run = move || {
        while let Some(lines) = lines.upgrade() {
            lines.state().speak_up(Instant::now());
            drop(lines);
            std::thread::sleep(LOOK);
        }
    };
    // Without the thread, only the intermediate lines are missing.
    let _ = std::thread::Builder::new().name("progress".to_owned()).spawn(run);
}

fn line_above(bars: &MultiProgress, text: &str) {
    // A closed standard error does not stop the work.
    let _ = bars.println(text);
}

fn style(total: Option<u64>, counted: Counted) -> ProgressStyle {
    let template = match (total, counted) {
        (None, _) => "{spinner} {prefix} {elapsed} {wide_msg}",
        (Some(_), Counted::Steps) => {
            "{spinner} {prefix} {elapsed} [{bar:24}] {pos}/{len} {wide_msg}"
        }
        (Some(_), Counted::Bytes) => {
            "{spinner} {prefix} {elapsed} [{bar:24}] {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec} {wide_msg}"
        }
    };
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl Write for Log {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Log {
        fn lines(&self) -> Vec<String> {
            let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
            text.lines().map(str::to_owned).collect()
        }
    }

    fn state(log: &Log) -> State {
        State { out: Box::new(log.clone()), tasks: BTreeMap::new(), next: 0 }
    }

    #[test]
    fn a_long_task_reports_its_progress_every_ten_seconds() {
        let (log, start) = (Log::default(), Instant::now());
        let mut state = state(&log);
        let id = state.start("qemu", Some(4 << 20), Counted::Bytes, start);
        state.change(id, |line| line.position = 1 << 20);
        state.change(id, |line| line.note = "libc6".to_owned());
        for second in 0..=21 {
            state.speak_up(start + Duration::from_secs(second));
        }
        assert_eq!(
            log.lines(),
            [
                "qemu",
                "qemu: 10 s, 1.0 MiB of 4.0 MiB, libc6",
                "qemu: 20 s, 1.0 MiB of 4.0 MiB, libc6"
            ]
        );
    }

    #[test]
    fn without_a_total_only_known_figures_are_shown() {
        let (log, start) = (Log::default(), Instant::now());
        let mut state = state(&log);
        state.start("kubelet: go build", None, Counted::Steps, start);
        state.speak_up(start + Duration::from_secs(125));
        assert_eq!(log.lines()[1], "kubelet: go build: 2 min 5 s");
    }

    #[test]
    fn parallel_tasks_write_whole_lines() {
        let log = Log::default();
        let progress = Progress::lines(Box::new(log.clone()));
        std::thread::scope(|scope| {
            for name in ["a", "b", "c", "d"] {
                let progress = progress.clone();
                scope.spawn(move || {
                    for _ in 0..50 {
                        let task = progress.task(name, None);
                        task.advance(1);
                        task.note("x");
                        task.done();
                    }
                });
            }
        });
        let whole = |line: &String| {
            ["a", "b", "c", "d"]
                .iter()
                .any(|n| line == n || line.starts_with(&format!("{n}: done in 0.")))
        };
        assert_eq!(log.lines().len(), 400);
        assert!(log.lines().iter().all(whole), "{:?}", log.lines());
    }

    #[test]
    fn a_task_that_an_error_stopped_is_not_shown_as_done() {
        let log = Log::default();
        let progress = Progress::lines(Box::new(log.clone()));
        drop(progress.task("x", None));
        assert!(log.lines()[1].starts_with("x: took 0."), "{:?}", log.lines());
    }

    #[test]
    fn sizes_and_durations_are_short() {
        let sizes = [0, 1023, 1024, 1536, 35_651_584, 3 << 30].map(|size| Bytes(size).to_string());
        assert_eq!(sizes, ["0 B", "1023 B", "1.0 KiB", "1.5 KiB", "34.0 MiB", "3.0 GiB"]);
        let times =
            [40, 9_940, 10_400, 60_000].map(|ms| Seconds(Duration::from_millis(ms)).to_string());
        assert_eq!(times, ["0.0 s", "9.9 s", "10 s", "1 min 0 s"]);
    }
}
