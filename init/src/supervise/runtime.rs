//! The supervisor's poll loop: turns what happens into events for [`step`](super::step::step), and
//! does what it answers.
//!
//! Nothing here opens, writes or unmounts anything on `/var`; what may hang runs in a thread or a
//! child of its own.
//!
//! To add something that the loop waits for: a variant of [`Source`], a line in
//! [`Runtime::sources`] and one in [`Runtime::handle`].

use std::collections::{BTreeMap, VecDeque};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use super::step::{Facts, PAUSES, State, step};
use super::units::{self, Unit};
use super::{Action, Chore, Event, Report, SERVICES, Service, Target, Timer, inputs};
use crate::config::Node;
use crate::data::Var;
use crate::devices::Devices;
use crate::log::{self, Log};
use crate::power::{self, Deadline};
use crate::spawn::{self, Child};
use crate::{evdev, kmsg, login1, notify, pod_logs, reason, signals};

/// Between two looks whether a group is empty; only while a shutdown waits for one.
const LOOK: Duration = Duration::from_millis(20);

/// Everything that the poll loop waits for.
pub struct Runtime {
    state: State,
    pub(super) units: [Unit; 2],
    timers: BTreeMap<Timer, Instant>,
    pub(super) stopping: Option<Target>,
    pub(super) chore: Option<(Chore, Child)>,
    deadline: Deadline,
    pub(super) log: Log,
    pub(super) signals: OwnedFd,
    pub(super) notify: OwnedFd,
    pub(super) requests: OwnedFd,
    pub(super) devices: Devices,
    pub(super) buttons: Vec<OwnedFd>,
    pub(super) login1: login1::Server,
    pub(super) shutdown_max: Duration,
}

/// What a descriptor of the poll loop is.
#[derive(Debug, Clone, Copy)]
pub(super) enum Source {
    Signals,
    Notify,
    Requests,
    Devices,
    Button(usize),
    Login1(login1::Source),
}

/// A descriptor of the poll loop, and what to wait for on it.
type Waiting<'a> = (Source, BorrowedFd<'a>, PollFlags);

impl Runtime {
    /// Prepares everything and starts containerd.
    pub fn start(node: &Node, devices: Devices) -> Result<Self> {
        // Signals before threads, since threads inherit what is blocked.
        let signals = signals::take().context("take signals")?;
        let (log, outputs) =
            Log::start(SERVICES.map(Service::name), node.log_to_console, log::file_max(node.var))?;
        if node.var == Var::Memory {
            let _ = kmsg::warn_on_error(pod_logs::guard());
        }
        let mut runtime = Self {
            state: State::new(Facts::default()),
            units: units::all(outputs)?,
            timers: BTreeMap::new(),
            stopping: None,
            chore: None,
            deadline: Deadline::start()?,
            log,
            signals,
            notify: notify::listen()?,
            requests: inputs::listen_for_requests()?,
            devices,
            buttons: evdev::open_all(),
            login1: login1::Server::start(node.graceful)?,
            shutdown_max: node.shutdown_max,
        };
        runtime.feed(Event::Boot);
        runtime.look_for_early_press();
        Ok(runtime)
    }

    /// Supervises until the machine goes down.
    pub fn run(mut self) -> ! {
        loop {
            for source in self.wait() {
                self.handle(source);
            }
            self.fire_timers();
            self.look_whether_gone();
        }
    }

    /// Waits for a descriptor or the next timer.
    fn wait(&self) -> Vec<Source> {
        let (sources, mut fds): (Vec<_>, Vec<_>) = self
            .sources()
            .into_iter()
            .map(|(source, fd, flags)| (source, PollFd::from_borrowed_fd(fd, flags)))
            .unzip();
        if let Err(error) = poll(&mut fds, self.patience().map(spawn::timespec).as_ref())
            && error != Errno::INTR
        {
            kmsg::error(format_args!("poll: {error}"));
            std::thread::sleep(Duration::from_secs(1));
        }
        let ready = sources.into_iter().zip(&fds).filter(|(_, fd)| !fd.revents().is_empty());
        ready.map(|(source, _)| source).collect()
    }

    fn sources(&self) -> Vec<Waiting<'_>> {
        let readable = |source, fd| (source, fd, PollFlags::IN);
        let mut sources = vec![
            readable(Source::Signals, self.signals.as_fd()),
            readable(Source::Notify, self.notify.as_fd()),
            readable(Source::Requests, self.requests.as_fd()),
            readable(Source::Devices, self.devices.socket().as_fd()),
        ];
        let buttons = self.buttons.iter().enumerate();
        sources.extend(buttons.map(|(i, fd)| readable(Source::Button(i), fd.as_fd())));
        sources
            .extend(self.login1.sources().map(|(at, fd, flags)| (Source::Login1(at), fd, flags)));
        sources
    }

    fn patience(&self) -> Option<Duration> {
        let now = Instant::now();
        let timer = self.timers.values().min().map(|due| due.saturating_duration_since(now));
        let look = self.stopping.map(|_| LOOK);
        let login1 = self.login1.due().map(|due| due.saturating_duration_since(now));
        timer.into_iter().chain(look).chain(login1).min()
    }

    fn handle(&mut self, source: Source) {
        match source {
            Source::Signals => self.take_signals(),
            Source::Notify => self.take_messages(),
            Source::Requests => self.take_requests(),
            Source::Devices => self.take_devices(),
            Source::Button(index) => self.take_button(index),
            Source::Login1(source) => self.take_login1(source),
        }
    }

    fn fire_timers(&mut self) {
        let now = Instant::now();
        self.login1.expire(now);
        while let Some(timer) =
            self.timers.iter().find(|(_, due)| **due <= now).map(|(timer, _)| *timer)
        {
            self.timers.remove(&timer);
            self.feed(Event::Due(timer));
        }
    }

    /// Tells the machine what happened, and does what it answers.
    pub(super) fn feed(&mut self, event: Event) {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            for action in step(&mut self.state, event) {
                events.extend(self.act(action));
            }
        }
    }

    /// Does one thing; the event is what came of it at once.
    fn act(&mut self, action: Action) -> Option<Event> {
        match action {
            Action::Start(service) => return self.start_service(service),
            Action::Run(chore) => return self.run_chore(chore),
            Action::Arm(timer, time) => drop(self.timers.insert(timer, Instant::now() + time)),
            Action::Disarm(timer) => drop(self.timers.remove(&timer)),
            Action::Abort(service) => self.abort(service),
            Action::Terminate(target) => self.terminate(target),
            Action::Kill(target) => self.kill(target),
            Action::Say(report) => say(report),
            // Not there yet: no probe is ever open for long.
            Action::Record(_) => {}
            Action::Announce if self.login1.announce() => kmsg::notice("kubelet stops its pods"),
            Action::Announce => return Some(Event::Released),
            Action::Probe(service) => return Some(Event::Probed(service, true)),
            Action::Deadline(power, time) => {
                kmsg::notice(format_args!("shutdown for {power}"));
                self.deadline.set(power, time);
                reason::keep_begun();
            }
            Action::Finish(power) => power::down(power),
        }
        None
    }
}

fn say(report: Report) {
    match report {
        Report::Hung(service) => kmsg::error(format_args!("{service} hangs, killing it")),
        Report::AtCap(service) => kmsg::error(format_args!(
            "{service} keeps failing, tried every {} s from now on",
            PAUSES[PAUSES.len() - 1].as_secs()
        )),
        Report::Trial(service) => {
            kmsg::error(format_args!("{service} keeps failing in a trial boot, rebooting"));
        }
        Report::Cure(service) => {
            kmsg::error(format_args!("{service} keeps failing, rebooting as a cure"));
        }
    }
}
