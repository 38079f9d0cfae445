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
use kiln_contract::console;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};

use super::host::Host;
use super::requests::Requests;
use super::step::{PAUSES, State, step};
use super::units::Unit;
use super::{Action, Chore, Event, Report, SERVICES, Service, Target, Timer};
use crate::console::kmsg;
use crate::devices::Devices;
use crate::kernel::evdev;
use crate::log::pod_logs;
use crate::log::{self, Log};
use crate::login1;
use crate::machine::watchdog;
use crate::process::spawn::{self, Child};
use crate::shutdown::power::{self, Deadline};
use crate::shutdown::{reason, signals};
use crate::storage::data::Var;
use crate::supervise::probe::Probe;
use crate::supervise::{cure, notify};
use crate::timeline::loader;
use crate::timeline::{self, Stages};

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
    pub(super) requests: Requests,
    pub(super) devices: Devices,
    pub(super) buttons: Vec<evdev::Button>,
    pub(super) login1: login1::Server,
    pub(super) shutdown_max: Duration,
    socket: Option<&'static str>,
    pub(super) probe: Option<(Service, Probe)>,
    pub(super) timeline: timeline::Keeper,
    pub(super) loader: Option<loader::Question>,
    /// Where the thread that counts reboots as a cure says that one is granted.
    pub(super) cure: (OwnedFd, OwnedFd),
    cure_reboots: u8,
    pace: u32,
    /// More children have ended than one turn reaps.
    pub(super) reaping: bool,
    fed: Instant,
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
    Probe,
    Cure,
    Loader,
}

/// A descriptor of the poll loop, and what to wait for on it.
type Waiting<'a> = (Source, BorrowedFd<'a>, PollFlags);

impl Runtime {
    /// Prepares everything and starts containerd.
    pub fn start(host: &Host, devices: Devices) -> Result<Self> {
        // Signals before threads, since threads inherit what is blocked.
        let signals = signals::take().context("take signals")?;
        let file_max = log::file_max(host.var);
        let (log, logging, [first, second]) =
            Log::new(SERVICES.map(Service::name), host.log_to_console, file_max)?;
        let mut runtime = Self {
            state: State::new(host.facts),
            units: [Unit::new(&host.services[0], first)?, Unit::new(&host.services[1], second)?],
            timers: BTreeMap::new(),
            stopping: None,
            chore: None,
            deadline: Deadline::start()?,
            log,
            signals,
            notify: notify::listen()?,
            requests: Requests::listen()?,
            devices,
            buttons: Vec::new(),
            login1: login1::Server::start(host.graceful)?,
            shutdown_max: host.shutdown_max,
            socket: host.probe,
            probe: None,
            timeline: timeline::Keeper::default(),
            loader: None,
            cure: pipe_with(PipeFlags::CLOEXEC).context("make a pipe")?,
            cure_reboots: host.cure_reboots,
            pace: host.pace,
            reaping: false,
            fed: Instant::now(),
        };
        runtime.feed(Event::Boot);
        // What containerd does not wait for comes when it runs.
        logging.start()?;
        if host.var == Var::Memory {
            let _ = kmsg::warn_on_error(pod_logs::guard());
        }
        runtime.buttons = evdev::open_all();
        runtime.look_for_early_press();
        Ok(runtime)
    }

    /// Supervises until the machine goes down.
    pub fn run(mut self, stages: Stages) -> ! {
        self.timeline.keep(stages);
        loop {
            for source in self.wait() {
                self.handle(source);
            }
            if self.reaping {
                let _ = self.reap();
            }
            self.fire_timers();
            self.look_whether_gone();
            self.feed_watchdog();
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
        sources.extend(buttons.map(|(i, button)| readable(Source::Button(i), button.fd.as_fd())));
        sources.extend(self.probe.iter().map(|(_, probe)| readable(Source::Probe, probe.as_fd())));
        sources.push(readable(Source::Cure, self.cure.0.as_fd()));
        sources.extend(self.loader.iter().map(|asked| readable(Source::Loader, asked.as_fd())));
        sources
            .extend(self.login1.sources().map(|(at, fd, flags)| (Source::Login1(at), fd, flags)));
        sources
    }

    /// The watchdog is fed here only: while the loop turns, and not more often than it needs.
    fn feed_watchdog(&mut self) {
        if self.fed.elapsed() >= watchdog::FEED {
            self.fed = Instant::now();
            watchdog::feed();
        }
    }

    fn patience(&self) -> Option<Duration> {
        let now = Instant::now();
        let timer = self.timers.values().min().map(|due| due.saturating_duration_since(now));
        let look = self.stopping.map(|_| LOOK);
        let more = self.reaping.then_some(Duration::ZERO);
        let food = Some(watchdog::FEED.saturating_sub(now.duration_since(self.fed)));
        let login1 = self.login1.due().map(|due| due.saturating_duration_since(now));
        let helper = self.devices.due().map(|due| due.saturating_duration_since(now));
        [timer, look, more, food, login1, helper].into_iter().flatten().min()
    }

    fn handle(&mut self, source: Source) {
        match source {
            Source::Signals => self.take_signals(),
            Source::Notify => self.take_messages(),
            Source::Requests => self.take_requests(),
            Source::Devices => self.take_devices(),
            Source::Button(index) => self.take_button(index),
            Source::Login1(source) => self.take_login1(source),
            Source::Probe => self.take_answer(),
            Source::Cure => self.take_cure(),
            Source::Loader => self.take_loader(),
        }
    }

    fn arm(&mut self, timer: Timer, time: Duration) {
        self.timers.insert(timer, Instant::now() + time);
    }

    fn fire_timers(&mut self) {
        let now = Instant::now();
        self.login1.expire(now);
        self.devices.expire(now);
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
        if let Some(name) = stage_of(action) {
            self.timeline.enter(name);
        }
        match action {
            Action::Start(service) => return self.start_service(service),
            Action::Run(chore) => return self.run_chore(chore),
            Action::Arm(timer @ Timer::Restart(_), time) => self.arm(timer, time / self.pace),
            Action::Arm(timer, time) => self.arm(timer, time),
            Action::Disarm(timer) => drop(self.timers.remove(&timer)),
            Action::Abort(service) => self.abort(service),
            Action::Terminate(target) => self.terminate(target),
            Action::Kill(target) => self.kill(target),
            Action::Say(report) => {
                if let Report::Hung(service) = report {
                    self.timeline.mark(format!("{service} hung"));
                }
                say(report);
            }
            Action::Record(service) => return self.record_cure(service),
            Action::Announce if self.login1.announce() => kmsg::notice("kubelet stops its pods"),
            Action::Announce => return Some(Event::Released),
            Action::Probe(service) => return self.start_probe(service),
            Action::Deadline(power, time) => {
                kmsg::notice(format_args!("shutdown for {power}"));
                self.deadline.set(power, time);
                self.devices.stop();
                watchdog::feed_for_the_last_time(time);
                reason::keep_begun();
            }
            Action::Finish(power) => {
                self.timeline.end();
                power::down(power)
            }
        }
        None
    }
}

impl Runtime {
    /// Asks; the event is that it could not even be asked.
    fn start_probe(&mut self, service: Service) -> Option<Event> {
        let Some(socket) = self.socket else { return Some(Event::Probed(service, true)) };
        self.probe = Probe::start(socket).ok().map(|probe| (service, probe));
        self.probe.is_none().then_some(Event::Probed(service, false))
    }

    fn take_answer(&mut self) {
        let answered = self.probe.as_mut().and_then(|(_, probe)| probe.read());
        if let Some(answered) = answered
            && let Some((service, _)) = self.probe.take()
        {
            self.feed(Event::Probed(service, answered));
        }
    }

    /// Asks for a reboot in a thread; the event is that it cannot be asked for.
    fn record_cure(&self, service: Service) -> Option<Event> {
        let done = self.cure.1.try_clone().context("duplicate a descriptor");
        let asked = done.and_then(|done| cure::record(service, self.cure_reboots, done));
        kmsg::warn_on_error(asked).is_none().then_some(Event::Cure(service, false))
    }

    fn take_loader(&mut self) {
        if let Some(asked) = self.loader.take() {
            self.timeline.loaded(asked.answer());
        }
    }

    fn take_cure(&mut self) {
        let mut answer = [0_u8; cure::ANSWER];
        if rustix::io::read(&self.cure.0, &mut answer) == Ok(cure::ANSWER) {
            for service in SERVICES.into_iter().skip(usize::from(answer[0])).take(1) {
                self.feed(Event::Cure(service, answer[1] == 1));
            }
        }
    }
}

/// The name of the shutdown's stage that begins with this.
fn stage_of(action: Action) -> Option<&'static str> {
    Some(match action {
        Action::Announce => "grace",
        Action::Terminate(Target::Service(Service::Kubelet)) => "stop-kubelet",
        Action::Terminate(Target::Pods) => "stop-pods",
        Action::Terminate(Target::Service(Service::Containerd)) => "stop-containerd",
        Action::Terminate(Target::Rest) => "stop-rest",
        Action::Run(Chore::Record) => "record",
        Action::Run(Chore::Unmount) => "unmount",
        Action::Run(Chore::Sync) => "sync",
        _ => return None,
    })
}

fn say(report: Report) {
    match report {
        Report::Hung(service) => {
            kmsg::event(&console::Event::Hung { service: service.to_string() });
        }
        Report::AtCap(service) => kmsg::event(&console::Event::Failing {
            service: service.to_string(),
            pause: PAUSES[PAUSES.len() - 1].as_secs(),
        }),
        Report::Trial(service) => {
            let why = format!("{service} keeps failing in a trial boot");
            kmsg::error(&why);
            reason::ask(power::Power::Reboot, &why);
        }
        Report::Cure(service) => {
            let why = format!("{service} keeps failing, a reboot as a cure");
            kmsg::error(&why);
            reason::ask(power::Power::Reboot, &why);
        }
    }
}
