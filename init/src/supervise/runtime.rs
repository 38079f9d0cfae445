//! The supervisor's poll loop: turns inputs into events for [`State`] and carries out its actions.
//!
//! Nothing here opens, writes or unmounts anything on `/var`. Work that may hang runs in a thread
//! or a child.
//!
//! A new input of the loop needs a variant of [`Input`], a line in [`Runtime::inputs`] and one in
//! [`Runtime::handle`].

use std::collections::{BTreeMap, VecDeque};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use kiln_contract::console;
use kiln_contract::setting::{LOG, SHUTDOWN_MAX};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::Signal;

use super::event::{Action, Chore, Event, Report, Target, Timer};
use super::host::Host;
use super::member::Membership;
use super::process::ServiceProcess;
use super::requests::Requests;
use super::service::{SERVICES, Service};
use super::state::State;
use super::up::PAUSES;
use crate::console::kmsg;
use crate::devices::hotplug::Devices;
use crate::kernel::evdev;
use crate::kernel::sysctl::Hurry;
use crate::log::handle::Log;
use crate::log::pod_logs;
use crate::log::requests;
use crate::log::stream;
use crate::login1;
use crate::machine::watchdog;
use crate::process::spawn::Child;
use crate::shutdown::end;
use crate::shutdown::force::Deadline;
use crate::shutdown::power::Power;
use crate::shutdown::{reason, signals};
use crate::storage::var::Var;
use crate::supervise::probe::Probe;
use crate::supervise::{cure, notify};
use crate::timeline::loader;
use crate::timeline::{self, Stages};
use kiln_base::time::timespec;

/// The pause between two checks whether a group is empty, while a shutdown waits for that.
const LOOK: Duration = Duration::from_millis(20);

/// The state of the loop and everything that it waits for.
pub struct Runtime {
    state: State,
    pub(super) services: [ServiceProcess; 2],
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
    /// The pipe for the answers of the thread that counts reboots as a cure.
    pub(super) cure: (OwnedFd, OwnedFd),
    pub(super) membership: Membership,
    cure_reboots: u8,
    pace: u32,
    /// True if more children have ended than one turn reaps.
    pub(super) reaping: bool,
    pub(super) hurry: Hurry,
    fed: Instant,
}

/// The input behind a descriptor of the poll loop.
#[derive(Debug, Clone, Copy)]
pub(super) enum Input {
    Signals,
    Notify,
    Requests,
    Devices,
    Button(usize),
    Login1(login1::Socket),
    Probe,
    Cure,
    Loader,
    Late,
    Addresses,
    Settled,
    LogRequests,
}

/// A descriptor of the poll loop with its input and the awaited events.
type Waiting<'a> = (Input, BorrowedFd<'a>, PollFlags);

impl Runtime {
    /// Prepares everything and starts containerd.
    pub fn start(host: &Host, devices: Devices) -> Result<Self> {
        // Signals come before threads, because threads inherit the mask.
        let signals = signals::take().context("cannot take signals")?;
        let file_max = stream::file_max(host.var);
        let (to_loop, from_log) = requests::channel()?;
        let to_console = host.parameters.is(&LOG, "console") || host.kubelet.settings.console.log;
        let (log, logging, [first, second]) =
            Log::new(SERVICES.map(Service::name), to_console, file_max, to_loop)?;
        let mut runtime = Self {
            state: State::new(host.facts),
            services: [
                ServiceProcess::new(&host.services[0], first)?,
                ServiceProcess::new(&host.services[1], second)?,
            ],
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
            shutdown_max: Duration::from_secs(host.parameters.number(&SHUTDOWN_MAX)),
            socket: host.probe,
            probe: None,
            timeline: timeline::Keeper::default(),
            loader: None,
            cure: pipe_with(PipeFlags::CLOEXEC).context("cannot make a pipe")?,
            membership: Membership::begin(&host.kubelet, from_log)?,
            cure_reboots: host.cure_reboots,
            pace: host.pace,
            reaping: false,
            hurry: Hurry::begin(Instant::now()),
            fed: Instant::now(),
        };
        runtime.feed(Event::Boot);
        // Work that containerd does not wait for comes after its start.
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
        self.devices.link_disks();
        loop {
            for input in self.wait() {
                self.handle(input);
            }
            if self.reaping {
                let _ = self.reap();
            }
            self.fire_timers();
            self.look_at_membership();
            self.look_whether_gone();
            self.feed_watchdog();
        }
    }

    /// Waits for an input or the next timer and returns the inputs that are ready.
    fn wait(&self) -> Vec<Input> {
        let (inputs, mut fds): (Vec<_>, Vec<_>) = self
            .inputs()
            .into_iter()
            .map(|(input, fd, flags)| (input, PollFd::from_borrowed_fd(fd, flags)))
            .unzip();
        if let Err(error) = poll(&mut fds, self.patience().map(timespec).as_ref())
            && error != Errno::INTR
        {
            kmsg::error(format_args!("cannot poll: {error}"));
            std::thread::sleep(Duration::from_secs(1));
        }
        let ready = inputs.into_iter().zip(&fds).filter(|(_, fd)| !fd.revents().is_empty());
        ready.map(|(input, _)| input).collect()
    }

    fn inputs(&self) -> Vec<Waiting<'_>> {
        let readable = |input, fd| (input, fd, PollFlags::IN);
        let mut inputs = vec![
            readable(Input::Signals, self.signals.as_fd()),
            readable(Input::Notify, self.notify.as_fd()),
            readable(Input::Requests, self.requests.as_fd()),
            readable(Input::Devices, self.devices.socket().as_fd()),
        ];
        let buttons = self.buttons.iter().enumerate();
        inputs.extend(buttons.map(|(i, button)| readable(Input::Button(i), button.fd.as_fd())));
        inputs.extend(self.probe.iter().map(|(_, probe)| readable(Input::Probe, probe.as_fd())));
        inputs.push(readable(Input::Cure, self.cure.0.as_fd()));
        let membership = &self.membership;
        inputs.extend(membership.late.iter().map(|late| readable(Input::Late, late.as_fd())));
        inputs.extend(membership.link.iter().map(|link| readable(Input::Addresses, link.as_fd())));
        inputs.push(readable(Input::Settled, membership.settled.0.as_fd()));
        inputs.push(readable(Input::LogRequests, membership.wake.as_fd()));
        inputs.extend(self.loader.iter().map(|asked| readable(Input::Loader, asked.as_fd())));
        inputs.extend(self.login1.sockets().map(|(at, fd, flags)| (Input::Login1(at), fd, flags)));
        inputs
    }

    /// Feeds the watchdog if it is due. Only the loop does this, so that a hung loop resets the
    /// machine.
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
        let helper = self.devices.due(now).map(|due| due.saturating_duration_since(now));
        let hurry = self.hurry.due().map(|due| due.saturating_duration_since(now));
        let membership = self.membership.due().map(|due| due.saturating_duration_since(now));
        let waits = [timer, look, more, food, login1, helper, hurry, membership];
        waits.into_iter().flatten().min()
    }

    fn handle(&mut self, input: Input) {
        match input {
            Input::Signals => self.take_signals(),
            Input::Notify => self.take_messages(),
            Input::Requests => self.take_requests(),
            Input::Devices => self.take_devices(),
            Input::Button(index) => self.take_button(index),
            Input::Login1(input) => self.take_login1(input),
            Input::Probe => self.take_answer(),
            Input::Cure => self.take_cure(),
            Input::Loader => self.take_loader(),
            Input::Late => self.take_late(),
            Input::Addresses => self.take_addresses(),
            Input::Settled => self.take_settled(),
            Input::LogRequests => self.take_log_requests(),
        }
    }

    fn arm(&mut self, timer: Timer, time: Duration) {
        self.timers.insert(timer, Instant::now() + time);
    }

    fn fire_timers(&mut self) {
        let now = Instant::now();
        self.login1.expire(now);
        self.devices.expire(now);
        self.hurry.expire(now);
        while let Some(timer) =
            self.timers.iter().find(|(_, due)| **due <= now).map(|(timer, _)| *timer)
        {
            self.timers.remove(&timer);
            self.feed(Event::Due(timer));
        }
    }

    /// Gives an event to the state machine and carries out its actions.
    pub(super) fn feed(&mut self, event: Event) {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            for action in self.state.take(event) {
                events.extend(self.act(action));
            }
        }
    }

    /// Carries out an action. Returns an event if the action has an immediate result.
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
            Action::Renew(service) => self.signal_service(service, Signal::TERM),
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
                end::down(power)
            }
        }
        None
    }
}

impl Runtime {
    /// Starts a probe. Returns an event if that fails.
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

    /// Requests a reboot from a thread. Returns an event if that fails.
    fn record_cure(&self, service: Service) -> Option<Event> {
        let done = self.cure.1.try_clone().context("cannot duplicate a descriptor");
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

/// Returns the name of the shutdown stage that begins with this action.
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
            reason::ask(Power::Reboot, &why);
        }
        Report::Cure(service) => {
            let why = format!("{service} keeps failing, a reboot as a cure");
            kmsg::error(&why);
            reason::ask(Power::Reboot, &why);
        }
    }
}
