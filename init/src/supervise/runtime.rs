//! The supervisor's hands: one poll loop that turns what happens into events for
//! [`step`](super::step::step), and does what it answers.
//!
//! Nothing here opens, writes or unmounts anything on `/var`; what may hang runs in a thread or a
//! child of its own.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use kiln_contract::console;
use kiln_contract::{cgroup as groups, path};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus};

use super::step::{State, step};
use super::{Action, Chore, Event, SERVICES, Service, Target, Timer};
use crate::config::Node;
use crate::log::Log;
use crate::power::{self, Deadline};
use crate::spawn::{self, Child, Program};
use crate::{cgroup, evdev, kmsg, notify, shutdown, signals, sysctl, uevent};

/// Between two looks whether a group is empty; only while a shutdown waits for one.
const LOOK: Duration = Duration::from_millis(20);

/// Bytes taken from a service's pipe at once: all that a pipe holds.
const CHUNK: usize = 64 * 1024;

/// A service with what it needs to be started again and again.
struct Unit {
    program: Program,
    group: OwnedFd,
    /// Both ends stay open over restarts, so that no output is lost and nothing leaks.
    reader: OwnedFd,
    writer: OwnedFd,
    child: Option<Child>,
    attempt: u32,
}

/// Everything that the poll loop waits for.
pub struct Runtime {
    state: State,
    units: [Unit; 2],
    timers: BTreeMap<Timer, Instant>,
    stopping: Option<Target>,
    chore: Option<(Chore, Child)>,
    deadline: Deadline,
    log: Log,
    signals: OwnedFd,
    notify: OwnedFd,
    requests: OwnedFd,
    uevents: OwnedFd,
    buttons: Vec<OwnedFd>,
    chunk: Vec<u8>,
}

/// What a descriptor of the poll loop is.
#[derive(Debug, Clone, Copy)]
enum Source {
    Signals,
    Notify,
    Requests,
    Uevents,
    Output(Service),
    Button(usize),
}

impl Runtime {
    /// Prepares everything and starts containerd.
    pub fn start(node: &Node) -> Result<Self> {
        // Signals before threads, since threads inherit what is blocked.
        let signals = signals::take().context("take signals")?;
        let mut runtime = Self {
            state: State::default(),
            units: [containerd()?, kubelet()?],
            timers: BTreeMap::new(),
            stopping: None,
            chore: None,
            deadline: Deadline::start()?,
            log: Log::start(&SERVICES.map(Service::name), node.log_to_console)?,
            signals,
            notify: notify::listen()?,
            requests: listen_for_requests()?,
            uevents: uevent::listen()?,
            buttons: evdev::open_all(),
            chunk: vec![0; CHUNK],
        };
        runtime.feed(Event::Boot);
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
            .map(|(source, fd)| (source, PollFd::new(fd, PollFlags::IN)))
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

    fn sources(&self) -> Vec<(Source, &OwnedFd)> {
        let mut sources = vec![
            (Source::Signals, &self.signals),
            (Source::Notify, &self.notify),
            (Source::Requests, &self.requests),
            (Source::Uevents, &self.uevents),
        ];
        let outputs = SERVICES.map(|service| (Source::Output(service), self.reader(service)));
        sources.extend(outputs);
        sources.extend(self.buttons.iter().enumerate().map(|(i, fd)| (Source::Button(i), fd)));
        sources
    }

    fn reader(&self, service: Service) -> &OwnedFd {
        &self.units[service.index()].reader
    }

    fn patience(&self) -> Option<Duration> {
        let now = Instant::now();
        let timer = self.timers.values().min().map(|due| due.saturating_duration_since(now));
        let look = self.stopping.map(|_| LOOK);
        timer.into_iter().chain(look).min()
    }

    fn handle(&mut self, source: Source) {
        match source {
            Source::Signals => self.take_signals(),
            Source::Notify => self.take_messages(),
            Source::Requests => self.take_requests(),
            Source::Uevents => self.take_uevents(),
            Source::Output(service) => self.take_output(service),
            Source::Button(index) => self.take_button(index),
        }
    }

    fn take_signals(&mut self) {
        for signal in signals::pending(&self.signals) {
            if signal == libc::SIGCHLD {
                self.reap();
            } else if let Some(power) = signals::request(signal) {
                kmsg::notice(format_args!("signal {signal} asks for {power}"));
                self.feed(Event::Shutdown(power));
            }
        }
    }

    /// Until none is left: one SIGCHLD can stand for many children, orphans among them.
    fn reap(&mut self) {
        while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
            self.ended(pid, status);
        }
    }

    fn ended(&mut self, pid: Pid, status: WaitStatus) {
        if let Some((chore, _)) = self.chore.take_if(|(_, child)| child.pid == pid) {
            return self.feed(Event::Finished(chore));
        }
        let is = |service: &Service| {
            self.units[service.index()].child.as_ref().is_some_and(|child| child.pid == pid)
        };
        if let Some(service) = SERVICES.into_iter().find(is) {
            self.units[service.index()].child = None;
            kmsg::warn(format_args!("{service} ended: {}", describe(status)));
            self.feed(Event::Exited(service));
        }
    }

    fn take_messages(&mut self) {
        while let Some((sender, messages)) = notify::receive(&self.notify) {
            let is = |service: &Service| {
                let child = self.units[service.index()].child.as_ref();
                child.is_some_and(|child| Some(child.pid) == sender)
            };
            let Some(service) = SERVICES.into_iter().find(is) else { continue };
            for notify::Message::Ready in messages {
                kmsg::event(&console::Event::Ready { service: service.to_string() });
                if service == Service::Kubelet {
                    sysctl::calm_rcu();
                }
                self.feed(Event::Ready(service));
            }
        }
    }

    fn take_requests(&mut self) {
        let mut bytes = [0_u8; 256];
        let Ok(length) = rustix::io::read(&self.requests, &mut bytes) else { return };
        for line in String::from_utf8_lossy(&bytes[..length]).lines() {
            match power::parse_request(line) {
                Some(power) => {
                    kmsg::notice(format_args!("{} asks for {power}", path::POWER_REQUEST));
                    self.feed(Event::Shutdown(power));
                }
                None => kmsg::warn(format_args!("{}: {line:?} ignored", path::POWER_REQUEST)),
            }
        }
    }

    fn take_uevents(&mut self) {
        while let Some(uevent) = uevent::receive(&self.uevents) {
            if uevent.action == "add" && uevent.subsystem == "input" {
                self.buttons.extend(evdev::open(&uevent.device));
            }
        }
    }

    fn take_output(&mut self, service: Service) {
        let reader = &self.units[service.index()].reader;
        if let Ok(length) = rustix::io::read(reader, &mut self.chunk[..]) {
            self.log.push(service.index(), &self.chunk[..length]);
        }
    }

    fn take_button(&mut self, index: usize) {
        let mut bytes = [0_u8; 24 * 64];
        let Some(button) = self.buttons.get(index) else { return };
        match rustix::io::read(button, &mut bytes) {
            Ok(length) if evdev::power_pressed(&bytes[..length]) => {
                kmsg::notice("power button pressed");
                self.feed(Event::Shutdown(power::Power::Off));
            }
            Ok(_) | Err(Errno::AGAIN) => {}
            // The device was removed. Others may have moved: their turn comes with the next poll.
            Err(_) => drop(self.buttons.remove(index)),
        }
    }

    fn fire_timers(&mut self) {
        let now = Instant::now();
        while let Some(timer) =
            self.timers.iter().find(|(_, due)| **due <= now).map(|(timer, _)| *timer)
        {
            self.timers.remove(&timer);
            self.feed(Event::Due(timer));
        }
    }

    fn look_whether_gone(&mut self) {
        let gone = match self.stopping {
            Some(Target::Pods) => cgroup::is_empty(groups::PODS),
            Some(Target::Rest) => {
                self.reap();
                matches!(rustix::process::wait(WaitOptions::NOHANG), Err(Errno::CHILD))
            }
            Some(Target::Service(_)) | None => false,
        };
        if let (true, Some(target)) = (gone, self.stopping) {
            self.stopping = None;
            self.feed(Event::Gone(target));
        }
    }

    fn feed(&mut self, event: Event) {
        for action in step(&mut self.state, event) {
            self.act(action);
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Start(service) => self.start_service(service),
            Action::Arm(timer, time) => drop(self.timers.insert(timer, Instant::now() + time)),
            Action::Disarm(timer) => drop(self.timers.remove(&timer)),
            Action::Terminate(target) => self.terminate(target),
            Action::Kill(target) => self.kill(target),
            Action::Run(chore) => self.run_chore(chore),
            Action::Deadline(power, time) => {
                kmsg::notice(format_args!("shutdown for {power}"));
                self.deadline.set(power, time);
            }
            Action::Finish(power) => power::down(power),
        }
    }

    fn start_service(&mut self, service: Service) {
        let unit = &mut self.units[service.index()];
        unit.attempt = unit.attempt.saturating_add(1);
        match spawn::start(&unit.program, unit.group.as_fd(), unit.writer.as_fd()) {
            Ok(child) => {
                unit.child = Some(child);
                let attempt = unit.attempt;
                let service = service.to_string();
                kmsg::event(&console::Event::Started { service, attempt });
            }
            Err(error) => {
                kmsg::error(format_args!("{error:#}"));
                self.feed(Event::Exited(service));
            }
        }
    }

    fn terminate(&mut self, target: Target) {
        self.stopping = Some(target);
        match target {
            Target::Service(service) => self.signal_service(service, Signal::TERM),
            Target::Pods => shutdown::signal_all(&cgroup::processes(groups::PODS), Signal::TERM),
            Target::Rest => shutdown::signal_everything(Signal::TERM),
        }
    }

    fn kill(&self, target: Target) {
        kmsg::warn(format_args!("{target:?} did not stop in time, killing it"));
        match target {
            Target::Service(service) => self.signal_service(service, Signal::KILL),
            Target::Pods => cgroup::kill(groups::PODS),
            Target::Rest => shutdown::signal_everything(Signal::KILL),
        }
    }

    fn signal_service(&self, service: Service, signal: Signal) {
        if let Some(child) = &self.units[service.index()].child {
            child.signal(signal);
        }
    }

    fn run_chore(&mut self, chore: Chore) {
        self.stopping = None;
        self.log.close();
        let child = match chore {
            Chore::Unmount => shutdown::unmount(),
            Chore::Sync => shutdown::sync(),
        };
        match kmsg::warn_on_error(child) {
            Some(child) => self.chore = Some((chore, child)),
            None => self.feed(Event::Finished(chore)),
        }
    }
}

fn describe(status: WaitStatus) -> String {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (_, Some(signal)) => format!("signal {signal}"),
        _ => "for an unknown reason".into(),
    }
}

fn containerd() -> Result<Unit> {
    unit(path::CONTAINERD, &["--config", path::CONTAINERD_CONFIG], groups::CONTAINERD)
}

fn kubelet() -> Result<Unit> {
    unit(path::KUBELET, &["--config", path::KUBELET_CONFIG], groups::KUBELET)
}

fn unit(program: &str, args: &[&str], group: &str) -> Result<Unit> {
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).context("make a pipe")?;
    // PID 1 must not wait for its own read; the services' end stays blocking.
    rustix::io::ioctl_fionbio(&reader, true).context("FIONBIO")?;
    let program = Program {
        path: CString::new(program)?,
        args: strings(std::iter::once(program).chain(args.iter().copied()))?,
        env: strings(environment().iter().map(String::as_str))?,
        oom_score: c"-999",
    };
    Ok(Unit { program, group: cgroup::open(group)?, reader, writer, child: None, attempt: 0 })
}

/// How much a Go heap may grow, in percent of what is alive, before it is collected (Go's default is 100).
///
/// An idle node keeps kubelet's, containerd's and the shims' heaps at their largest for ever.
/// Less than their default is memory for pods, at the price of some processor time while they start.
const GARBAGE_PERCENT: u32 = 75;

/// The whole environment of a service.
fn environment() -> [String; 4] {
    [
        format!("PATH={}", path::BIN),
        "HOME=/root".into(),
        format!("NOTIFY_SOCKET={}", path::NOTIFY_SOCKET),
        format!("GOGC={GARBAGE_PERCENT}"),
    ]
}

fn strings<'a>(texts: impl Iterator<Item = &'a str>) -> Result<Vec<CString>> {
    texts.map(|text| CString::new(text).context("a string with a NUL")).collect()
}

/// Makes the FIFO that a privileged pod asks through. Opened for writing too, so that it never
/// reads as ended.
fn listen_for_requests() -> Result<OwnedFd> {
    let mode = Mode::RUSR | Mode::WUSR;
    rustix::fs::mknodat(CWD, path::POWER_REQUEST, FileType::Fifo, mode, 0)
        .with_context(|| format!("make {}", path::POWER_REQUEST))?;
    let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
    rustix::fs::open(path::POWER_REQUEST, flags, Mode::empty())
        .with_context(|| format!("open {}", path::POWER_REQUEST))
}
