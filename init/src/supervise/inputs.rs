//! Inputs from outside: signals, notify messages, requests, uevents, login1, buttons.
//!
//! Each function takes the input that waits on one descriptor and returns at once.

use std::time::{Duration, Instant};

use kiln_contract::setting::SHUTDOWN_MAX;
use kiln_contract::{console, path};
use rustix::io::Errno;

use super::event::Event;
use super::runtime::Runtime;
use super::service::{SERVICES, Service};
use crate::console::kmsg;
use crate::kernel::evdev;
use crate::login1;
use crate::shutdown::power::Power;
use crate::shutdown::{power, reason, signals};
use crate::supervise::{hooks, notify};
use crate::timeline::loader;

/// The number of messages taken from one socket in one turn of the loop, so that a flood does not
/// block other inputs.
const TURN_MAX: usize = 64;

impl Runtime {
    /// Requests a shutdown. The first request and its reason win.
    pub(super) fn ask(&mut self, power: Power, reason: std::fmt::Arguments) {
        kmsg::notice(reason);
        reason::ask(power, &reason.to_string());
        self.feed(Event::Shutdown(power));
    }

    pub(super) fn take_signals(&mut self) {
        for signal in signals::pending(&self.signals) {
            let signals::Signal { number, sender } = signal;
            if number == libc::SIGCHLD {
                let _ = self.reap();
            } else if let Some(power) = signals::request(number) {
                let name = std::fs::read_to_string(format!("/proc/{sender}/comm"));
                let name = name.unwrap_or_else(|_| if sender == 0 { "kernel" } else { "?" }.into());
                let name = name.trim_end();
                self.ask(power, format_args!("signal {number} from {sender} ({name})"));
            }
        }
    }

    pub(super) fn take_messages(&mut self) {
        for _ in 0..TURN_MAX {
            let Some((sender, messages)) = notify::receive(&self.notify) else { return };
            let is = |service: &Service| {
                let child = self.services[service.index()].child.as_ref();
                child.is_some_and(|child| Some(child.pid) == sender)
            };
            let Some(service) = SERVICES.into_iter().find(is) else { continue };
            for message in messages {
                self.take_message(service, message);
            }
        }
    }

    fn take_message(&mut self, service: Service, message: notify::Message) {
        match message {
            notify::Message::Ready => {
                kmsg::event(&console::Event::Ready { service: service.to_string() });
                self.timeline.mark(format!("{service} ready"));
                if service == Service::Kubelet {
                    self.hurry.end();
                    self.look_before_the_kernel();
                    self.login1.expect_inhibitor(Instant::now());
                }
                self.feed(Event::Ready(service));
            }
            notify::Message::Fed => self.feed(Event::Fed(service)),
            notify::Message::Stopping => self.feed(Event::Stopping(service)),
        }
    }

    /// Computes the time before the kernel, once, and as late as this, so that it delays no start.
    fn look_before_the_kernel(&mut self) {
        if self.timeline.measure() {
            self.loader = loader::Question::ask();
        }
    }

    pub(super) fn take_requests(&mut self) {
        let mut ignored = 0_u32;
        for line in self.requests.take() {
            hooks::panic_if_asked(&line);
            if let Some((power, why)) = power::parse_request(&line) {
                self.ask(power, format_args!("request through {}: {why}", path::POWER_REQUEST));
                continue;
            }
            // The console is slow, so all ignored lines together are one message.
            if ignored == 0 {
                kmsg::warn(format_args!("{}: {line:?} ignored", path::POWER_REQUEST));
            }
            ignored = ignored.saturating_add(1);
        }
        if ignored > 1 {
            let more = ignored - 1;
            kmsg::warn(format_args!("{}: {more} more lines ignored", path::POWER_REQUEST));
        }
    }

    pub(super) fn take_devices(&mut self) {
        for device in self.devices.take() {
            self.add_button(&device);
        }
    }

    /// Opens a new input device if it is a button. A known device is skipped, because root can
    /// make the kernel announce a device again.
    fn add_button(&mut self, device: &str) {
        let first = self.buttons.is_empty();
        if self.buttons.iter().all(|button| button.device != device) {
            self.buttons.extend(evdev::open(device));
        }
        if first {
            self.look_for_early_press();
        }
    }

    /// Checks, once a button is open, if it was pressed before that.
    pub(super) fn look_for_early_press(&mut self) {
        if !self.buttons.is_empty() && evdev::pressed_before() {
            self.ask(Power::Off, format_args!("power button pressed during the boot"));
        }
    }

    pub(super) fn take_login1(&mut self, socket: login1::Socket) {
        let kubelet = self.services[Service::Kubelet.index()].child.as_ref().map(|child| child.pid);
        match self.login1.handle(socket, kubelet, Instant::now()) {
            Some(login1::News::Inhibited(grace)) => {
                kmsg::notice(format_args!("kubelet wants {} s at a shutdown", grace.as_secs()));
                self.feed(Event::Grace(self.cap(grace)));
                self.feed(Event::Inhibited);
            }
            Some(login1::News::Released) => self.feed(Event::Released),
            None => {}
        }
    }

    /// Caps kubelet's grace at the limit. kubelet is promised all of it, because it would otherwise
    /// take no inhibitor.
    fn cap(&self, grace: Duration) -> Duration {
        let (wanted, max) = (grace.as_secs(), self.shutdown_max.as_secs());
        if wanted > max {
            kmsg::error(format_args!(
                "kubelet wants {wanted} s at a shutdown and gets {max} s ({})",
                SHUTDOWN_MAX.name
            ));
        }
        Duration::from_secs(wanted.min(max))
    }

    pub(super) fn take_button(&mut self, index: usize) {
        let mut bytes = [0_u8; 24 * 64];
        let Some(button) = self.buttons.get(index) else { return };
        match rustix::io::read(&button.fd, &mut bytes) {
            Ok(length) if evdev::power_pressed(&bytes[..length]) => {
                self.ask(Power::Off, format_args!("power button pressed"));
            }
            Ok(_) | Err(Errno::AGAIN) => {}
            // The device was removed. The other buttons' indexes may have changed; the
            // next poll reads them.
            Err(_) => drop(self.buttons.remove(index)),
        }
    }
}
