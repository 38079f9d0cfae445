//! Hardware that appears while the node runs: reads the kernel's messages, has modules loaded, and
//! has the links of disks made.
//!
//! One helper process at a time loads modules, because a driver's start can take seconds or hang.
//! PID 1 only reads messages. If the queue or the kernel's buffer overflows, the helper scans all
//! devices, which finds everything that was lost.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use anyhow::Result;
use kiln_contract::path::DEVICES_LOCK;
use rustix::process::Pid;

use super::device::Device;
use super::disk;
use super::queue::{Queue, Work};
use crate::console::kmsg;
use crate::kernel::uevent::{self, Received, Uevent};
use crate::process::helper::Helper;
use crate::process::spawn::Child;

/// The time limit for a helper. Drivers that look for a device on a slow bus take up to half a
/// minute, and the helper may first wait for another process ([`crate::devices::coldplug::WAIT`]).
const HELPER_MAX: Duration = Duration::from_mins(1);

/// Messages that are read in one turn of the loop.
const BATCH_MAX: usize = 256;

/// The kernel's messages, the queue and the helper.
pub struct Devices {
    socket: OwnedFd,
    queue: Queue,
    /// The helper and its deadline.
    helper: Option<(Child, Instant)>,
    disks: disk::queue::Queue,
    /// The helper that makes the links of disks.
    linker: Option<Child>,
    /// True in a shutdown: no more helpers are started.
    stopped: bool,
}

impl Devices {
    /// Starts to listen. Call it before the first scan of all devices.
    pub fn listen() -> Result<Self> {
        Ok(Self {
            socket: uevent::listen()?,
            queue: Queue::default(),
            helper: None,
            disks: disk::queue::Queue::default(),
            linker: None,
            stopped: false,
        })
    }

    /// Has the links made of the disks that are present. Call it once containerd is started, which
    /// needs none of them.
    pub fn link_disks(&mut self) {
        let disks = std::fs::read_dir("/sys/class/block");
        if disks.is_ok_and(|mut disks| disks.next().is_some()) {
            self.disks.overrun();
        }
        self.help();
    }

    /// Returns the descriptor to poll. If it is readable, call [`Devices::take`].
    #[must_use]
    pub fn socket(&self) -> &OwnedFd {
        &self.socket
    }

    /// Reads the waiting messages and starts a helper if needed. Returns new input devices, as
    /// names below `/dev`.
    #[must_use]
    pub fn take(&mut self) -> Vec<String> {
        let mut inputs = Vec::new();
        for _ in 0..BATCH_MAX {
            match uevent::receive(&self.socket) {
                Received::Message(uevent) => inputs.extend(self.take_one(uevent)),
                Received::Overrun => {
                    self.queue.overrun();
                    self.disks.overrun();
                }
                Received::Nothing => break,
            }
        }
        self.help();
        inputs
    }

    fn take_one(&mut self, uevent: Uevent) -> Option<String> {
        let Uevent { action, subsystem, device, path, modalias } = uevent;
        if subsystem == "block" && !device.is_empty() {
            self.disks.note(device);
            return None;
        }
        if action == "remove" {
            return None;
        }
        if !modalias.is_empty() {
            self.queue.note(Device { modalias, path });
        }
        (action == "add" && subsystem == "input" && !device.is_empty()).then_some(device)
    }

    /// Records the end of a child. Returns true if it was the helper.
    pub fn ended(&mut self, pid: Pid) -> bool {
        if self.linker.take_if(|linker| linker.pid == pid).is_some() {
            self.disks.done();
            self.help();
            return true;
        }
        let was = self.helper.take_if(|(helper, _)| helper.pid == pid).is_some();
        if was {
            self.queue.done();
            self.help();
        }
        was
    }

    /// Starts no more helpers.
    pub fn stop(&mut self) {
        self.stopped = true;
    }

    fn help(&mut self) {
        if self.stopped {
            return;
        }
        self.link();
        let Some(work) = self.queue.work() else { return };
        let helper = kmsg::warn_on_error(Self::start_helper(work));
        self.helper = helper.map(|helper| (helper, Instant::now() + HELPER_MAX));
        if self.helper.is_none() {
            self.queue.done();
        }
    }

    /// Starts the helper that makes links, if disks wait for it.
    fn link(&mut self) {
        let Some(work) = self.disks.work(Instant::now()) else { return };
        let names = if let disk::queue::Work::Disks(names) = work { names } else { Vec::new() };
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let started = kmsg::warn_on_error(Helper::DiskLinks.start(&names));
        self.linker = started.map(|(linker, _)| linker);
        if self.linker.is_none() {
            self.disks.done();
        }
    }

    /// Returns the time at which [`Devices::expire`] must be called.
    #[must_use]
    pub fn due(&self, now: Instant) -> Option<Instant> {
        if self.stopped {
            return None;
        }
        let helper = self.helper.as_ref().map(|(_, due)| *due);
        [helper, self.disks.due(now)].into_iter().flatten().min()
    }

    /// Abandons a helper at its deadline and starts the next one. The helper is not killed,
    /// because a slow driver would fail and its module would stay. It is reaped when it ends.
    pub fn expire(&mut self, now: Instant) {
        if self.disks.is_late(now) {
            // Its threads wait for disks that do not answer, which it has reported.
            self.linker = None;
            self.disks.done();
        }
        if self.disks.due(now).is_some_and(|due| due <= now) {
            self.help();
        }
        if self.helper.take_if(|(_, due)| *due <= now).is_none() {
            return;
        }
        // The helper may hold the lock for as long as it hangs, so the next helpers make
        // another one.
        let _ = std::fs::remove_file(DEVICES_LOCK);
        let seconds = HELPER_MAX.as_secs();
        match self.queue.hung() {
            Some(Device { modalias, path }) => kmsg::warn(format_args!(
                "the driver of /sys{path} ({modalias}) did not start in {seconds} s, given up"
            )),
            None => kmsg::warn(format_args!("loading modules for devices took over {seconds} s")),
        }
        self.help();
    }

    fn start_helper(work: Work) -> Result<Child> {
        let devices = if let Work::Load(devices) = work { devices } else { Vec::new() };
        let args: Vec<&str> = devices
            .iter()
            .flat_map(|device| [device.modalias.as_str(), device.path.as_str()])
            .collect();
        Ok(Helper::Hotplug.start(&args)?.0)
    }
}
