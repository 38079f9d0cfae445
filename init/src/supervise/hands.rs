//! The supervisor's work on processes: start, signal, reap, and the helpers of a shutdown.

use kiln_contract::{cgroup as groups, console};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus};

use super::event::{Chore, Event, Target};
use super::runtime::Runtime;
use super::service::{SERVICES, Service};
use crate::console::kmsg;
use crate::kernel::cgroup;
use crate::process::kill;
use crate::shutdown::reason::{self, End};
use crate::shutdown::unmount;

/// The number of children reaped in one turn of the loop. It takes about a millisecond, so that a
/// storm of orphans delays neither a restart nor a request.
const REAPED_MAX: usize = 256;

/// The presence of children that have not been reaped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Left {
    None,
    Some,
}

impl Runtime {
    /// Starts a service. Returns an event if that fails.
    pub(super) fn start_service(&mut self, service: Service) -> Option<Event> {
        // An answer to the previous process' probe would be misleading.
        self.probe = self.probe.take().filter(|(asked, _)| *asked != service);
        match self.services[service.index()].start() {
            Ok(attempt) => {
                if let Some(child) = &self.services[service.index()].child {
                    self.log
                        .started(service.index(), child.pid.as_raw_nonzero().get().unsigned_abs());
                }
                self.timeline.mark(format!("{service} started"));
                let service = service.to_string();
                kmsg::event(&console::Event::Started { service, attempt });
                None
            }
            Err(error) => {
                kmsg::error(format_args!("{error:#}"));
                Some(Event::Exited(service))
            }
        }
    }

    /// Reaps children until no child has ended, up to one turn's limit: one SIGCHLD can stand
    /// for many children, orphans among them.
    pub(super) fn reap(&mut self) -> Left {
        self.reaping = false;
        for _ in 0..REAPED_MAX {
            match rustix::process::wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) => self.ended(pid, status),
                Err(Errno::CHILD) => return Left::None,
                Ok(None) | Err(_) => return Left::Some,
            }
        }
        self.reaping = true;
        Left::Some
    }

    fn ended(&mut self, pid: Pid, status: WaitStatus) {
        if self.devices.ended(pid) {
            return;
        }
        if let Some((chore, _)) = self.chore.take_if(|(_, child)| child.pid == pid) {
            return self.feed(Event::Finished(chore));
        }
        let is = |service: &Service| {
            self.services[service.index()].child.as_ref().is_some_and(|child| child.pid == pid)
        };
        if let Some(service) = SERVICES.into_iter().find(is) {
            self.services[service.index()].child = None;
            kmsg::warn(format_args!("{service} ended: {}", describe(status)));
            self.timeline.mark(format!("{service} ended"));
            self.feed(Event::Exited(service));
        }
    }

    pub(super) fn look_whether_gone(&mut self) {
        let gone = match self.stopping {
            Some(Target::Pods) => cgroup::is_empty(groups::PODS),
            Some(Target::Rest) => self.reap() == Left::None,
            Some(Target::Service(_)) | None => false,
        };
        if let (true, Some(target)) = (gone, self.stopping) {
            self.stopping = None;
            self.feed(Event::Gone(target));
        }
    }

    pub(super) fn terminate(&mut self, target: Target) {
        self.stopping = Some(target);
        match target {
            Target::Service(service) => self.signal_service(service, Signal::TERM),
            Target::Pods => kill::all(&cgroup::processes(groups::PODS), Signal::TERM),
            Target::Rest => kill::everything(Signal::TERM),
        }
    }

    pub(super) fn kill(&self, target: Target) {
        kmsg::warn(format_args!("{target} did not stop in time, sending SIGKILL"));
        match target {
            Target::Service(service) => self.signal_service(service, Signal::KILL),
            Target::Pods => cgroup::kill(groups::PODS),
            Target::Rest => kill::everything(Signal::KILL),
        }
    }

    pub(super) fn signal_service(&self, service: Service, signal: Signal) {
        if let Some(child) = &self.services[service.index()].child {
            child.signal(signal);
        }
    }

    /// Sends SIGABRT. The Go runtime logs all goroutines' stacks and exits.
    pub(super) fn abort(&self, service: Service) {
        self.signal_service(service, Signal::ABORT);
    }

    /// Starts a helper. Returns the event of its end if it cannot be started.
    pub(super) fn run_chore(&mut self, chore: Chore) -> Option<Event> {
        self.stopping = None;
        self.log.close();
        let child = match chore {
            Chore::Record => reason::keep(End::Ordered),
            Chore::Unmount => {
                self.timeline.lose_file();
                unmount::unmount()
            }
            Chore::Sync => unmount::sync(),
        };
        self.chore = kmsg::warn_on_error(child).map(|child| (chore, child));
        self.chore.is_none().then_some(Event::Finished(chore))
    }
}

fn describe(status: WaitStatus) -> String {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (_, Some(signal)) => format!("signal {signal}"),
        _ => "for an unknown reason".into(),
    }
}
