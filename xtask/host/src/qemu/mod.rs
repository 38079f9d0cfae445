//! Runs a node in QEMU: starts it, shows its console and its boot timeline, and powers it off.

mod accel;
mod answer;
mod console;
mod esp;
mod forward;
mod qmp;
mod scratch;
pub mod segment;
mod timeline;
mod vm;

use std::fs;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
pub use kiln_contract::console::Event;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::process::Stopped;
use crate::{output, println};

pub use answer::{Page, Poll, get, get_as, get_through};
pub use console::{Line, News};
pub use forward::{Forward, PortChoice, check_free, forwards, free_forwards};
pub use qmp::slot;
pub use scratch::Scratch;
pub use timeline::{Answer, Span, Timeline, kernel_start, table};
pub use vm::{End, Kernel, LOOK, Machine, Network, Start, Vm, WATCHDOG};

/// The longest time without a sign of life from a node: a console line or an answer.
///
/// Under emulation on a busy host a boot takes minutes; a longer silence means that the node hangs.
pub const SILENCE: Duration = Duration::from_mins(5);

/// The longest time from the node's last message to QEMU's exit.
pub const AFTER_DOWN: Duration = Duration::from_mins(1);

/// The pause between two presses of the power button until the node goes down.
const PRESS_AGAIN: Duration = Duration::from_secs(10);

/// The console lines that an error repeats.
pub const LAST_LINES: usize = 30;

/// The user's choices for a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// True to power the node off as soon as every forwarded port has answered, instead of at ctrl-C.
    pub check: bool,
    /// The file to draw the boot's timeline into.
    pub svg: Option<PathBuf>,
}

/// A running node that is shown to the user.
struct Session {
    vm: Vm,
    poll: Poll,
    urls: Vec<String>,
    check: bool,
    svg: Option<PathBuf>,
    lines: Vec<Line>,
    answers: Vec<Answer>,
    cursor: usize,
    /// The time of the last sign of life.
    alive: Instant,
    state: State,
    /// True once everything has answered.
    served: bool,
    /// The time of the last press of the power button.
    pressed: Option<Instant>,
    dim: bool,
}

/// The state of a node that is shown to the user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Booting,
    Serving,
    /// The power button was pressed.
    Stopping,
    /// The node has written its last message.
    Down,
}

/// Boots a machine and shows it until ctrl-C powers it off.
///
/// Fails if the node does not come up, does not answer, or does not power off.
pub fn run(machine: &Machine, options: Options) -> Result<()> {
    check_free(&machine.forwards)?;
    // Registered before QEMU starts: from here on ctrl-C is the node's power button.
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).context("cannot catch ctrl-C")?;
    let vm = machine.start()?;
    if let Some(note) = &vm.note {
        println!("no KVM: {note}");
    }
    println!("booting {} with {}, {} MiB", machine.start, vm.accel, machine.memory);
    let mut session = Session::new(vm, machine, options);
    let mut presses = 0;
    loop {
        presses += signals.pending().count();
        if let Some(result) = session.turn(presses)? {
            return result;
        }
    }
}

impl Session {
    fn new(vm: Vm, machine: &Machine, options: Options) -> Self {
        let poll = Poll::new(&machine.forwards, vm.start);
        let dim = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        Self {
            vm,
            poll,
            urls: machine.forwards.iter().map(|forward| forward.url()).collect(),
            check: options.check,
            svg: options.svg,
            lines: Vec::new(),
            answers: Vec::new(),
            cursor: 0,
            alive: Instant::now(),
            state: State::Booting,
            served: false,
            pressed: None,
            dim,
        }
    }

    /// Processes new lines and answers; returns the result once it is known.
    fn turn(&mut self, presses: usize) -> Result<Option<Result<()>>> {
        if output::is_closed() {
            bail!("killed, because the output no longer has a reader");
        }
        if presses > 1 {
            bail!(Stopped("killed; the node was not powered off cleanly"));
        }
        self.take_lines()?;
        self.take_answers()?;
        if presses == 1 && !self.lines.iter().any(Line::is_init) {
            // Nothing has started yet that needs a clean shutdown.
            if self.check {
                bail!(Stopped("interrupted before the node was up"));
            }
            println!("stopped before the node was up");
            return Ok(Some(Ok(())));
        }
        if presses == 1 || self.pressed.is_some() || (self.check && self.state == State::Serving) {
            self.power_off()?;
        }
        if let Some(end) = self.vm.ended()? {
            // QEMU's last output may still be in the pipe.
            self.take_lines()?;
            return Ok(Some(self.verdict(&end)));
        }
        let waiting =
            self.state == State::Stopping || self.state == State::Booting && !self.urls.is_empty();
        if waiting && self.alive.elapsed() > SILENCE {
            bail!("the node {}: {}{}", self.doing(), self.trouble(), self.tail());
        }
        Ok(None)
    }

    fn take_lines(&mut self) -> Result<()> {
        let News { lines, cursor, ended } = self.vm.console.news(self.cursor, LOOK);
        if ended && lines.is_empty() {
            // The console closes a moment before QEMU exits.
            std::thread::sleep(LOOK);
        }
        self.cursor = cursor;
        for line in lines {
            self.alive = Instant::now();
            self.show(&line);
            if line.is_fatal() {
                // The next lines have the reason.
                std::thread::sleep(Duration::from_secs(1));
                bail!("the node's kernel crashed: {}{}", line.text, self.tail());
            }
            if matches!(line.event(), Some(Event::Down { .. })) {
                self.state = State::Down;
            }
            if self.state == State::Booting {
                self.lines.push(line);
            }
        }
        Ok(())
    }

    fn show(&self, line: &Line) {
        let (on, off) = if self.dim { ("\x1b[2m", "\x1b[0m") } else { ("", "") };
        println!("{on}{}{off}", line.shown());
    }

    fn take_answers(&mut self) -> Result<()> {
        while let Some(answer) = self.poll.next() {
            self.alive = Instant::now();
            println!("{} answers", answer.url);
            self.answers.push(answer);
        }
        if self.state == State::Booting
            && self.answers.len() == self.urls.len()
            && self.services_ready()
        {
            self.state = State::Serving;
            self.served = true;
            self.report()?;
        }
        Ok(())
    }

    /// True once the node is up: without a forwarded port, that is when kubelet is ready.
    fn services_ready(&self) -> bool {
        let ready = |line: &Line| matches!(line.event(), Some(Event::Ready { service }) if service == "kubelet");
        !self.urls.is_empty() || self.lines.iter().any(ready)
    }

    fn report(&self) -> Result<()> {
        let timeline = Timeline::new(&self.lines, &self.answers);
        println!("\n{}", timeline.render());
        if let Some(path) = &self.svg {
            fs::write(path, timeline.picture())
                .with_context(|| format!("cannot write {}", path.display()))?;
        }
        if !self.check {
            println!("the node serves {}; ctrl-C powers it off\n", self.urls.join(" "));
        }
        Ok(())
    }

    /// Presses the button again and again, because a booting node does not react to it yet.
    fn power_off(&mut self) -> Result<()> {
        if self.state == State::Down || self.pressed.is_some_and(|at| at.elapsed() < PRESS_AGAIN) {
            return Ok(());
        }
        if self.pressed.is_none() {
            println!("pressing the power button; ctrl-C kills the node");
            self.alive = Instant::now();
            self.state = State::Stopping;
        }
        self.pressed = Some(Instant::now());
        self.vm.qmp()?.power_button()
    }

    fn verdict(&self, end: &End) -> Result<()> {
        let answered = !self.check || self.served;
        match (end, self.state) {
            (End::Itself { reason }, _) => bail!("{reason}"),
            (End::Guest, State::Down) if answered => Ok(()),
            (End::Guest, _) => {
                bail!(
                    "the node {} and stopped without a clean shutdown{}",
                    self.doing(),
                    self.tail()
                )
            }
        }
    }

    /// Returns the reason why the node makes no progress: kubelet's, if a pod does not start.
    fn trouble(&self) -> String {
        let reasons: Vec<String> = self.lines.iter().filter_map(unstarted).collect();
        match reasons[..] {
            [] => format!("it wrote no new output for {} s", SILENCE.as_secs()),
            _ => reasons.join("\n"),
        }
    }

    fn doing(&self) -> &'static str {
        match self.state {
            State::Booting => "did not come up",
            State::Serving => "was up",
            State::Stopping => "was asked to power off",
            State::Down => "went down on its own",
        }
    }

    fn tail(&self) -> String {
        format!("\nlast lines of its console:\n{}", self.vm.console.last(LAST_LINES))
    }
}

/// kubelet's reason why a pod does not start, if the line has one.
fn unstarted(line: &Line) -> Option<String> {
    let event = line.event()?;
    matches!(event, Event::NotStarted { .. }).then(|| event.to_string())
}
