//! The hardware watchdog (Documentation/watchdog/watchdog-api.rst), which resets the machine if PID
//! 1 hangs.
//!
//! It is armed as soon as its module is loaded, fed at the start of each boot stage, and after that
//! by the supervisor's loop. PID 1 never closes it in the orderly way (`V`), so that no failure can
//! stop it. The exception is a halt, after which the machine must stay on. Without a hardware
//! watchdog, softdog catches a hung PID 1 but not a hung kernel.

use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::console::kmsg;

/// The kernel's watchdog core (`drivers/watchdog/watchdog_core.c`), by its name in the archive.
const CORE: &str = "watchdog.ko";

/// Keeps the watchdog running during `reboot(2)`. By default the core stops it, and then nothing
/// resets a machine that hangs there: the kernel waits for every driver first.
const CORE_OPTIONS: &str = "stop_on_reboot=0";

/// The first watchdog device, whichever driver it has.
const DEVICE: &str = "/dev/watchdog0";

/// The longest time that PID 1 may hang. It is twice the longest deadline of a boot stage
/// (30 s for `data` and for `config`), so that a slow disk resets no machine, and much longer than
/// a turn of the loop.
pub const TIMEOUT: Duration = Duration::from_mins(1);

/// The longest time between two feedings. A quarter of [`TIMEOUT`], so that one late turn of the
/// loop does not reset the machine. Not every turn feeds, because feeding a virtual device costs a
/// VM exit.
pub const FEED: Duration = Duration::from_secs(15);

/// The time between the deadline of a shutdown and the reset by the watchdog.
pub const MARGIN: Duration = Duration::from_secs(10);

/// `WDIOC_*` of include/uapi/linux/watchdog.h: direction, size, `W`, number.
const GETSUPPORT: u64 = 0x8028_5700;
const GETBOOTSTATUS: u64 = 0x8004_5702;
const SETOPTIONS: u64 = 0x8004_5704;
const SETTIMEOUT: u64 = 0xc004_5706;

/// `WDIOF_CARDRESET`: the watchdog caused the last reset.
const CARDRESET: i32 = 0x20;

/// `WDIOS_DISABLECARD`.
const DISABLE: i32 = 1;

/// `struct watchdog_info`.
#[repr(C)]
struct Info {
    options: u32,
    firmware_version: u32,
    identity: [u8; 32],
}

static ARMED: OnceLock<OwnedFd> = OnceLock::new();

/// True once a shutdown has set its timeout; after that the watchdog is not fed.
static LAST: AtomicBool = AtomicBool::new(false);

/// Returns the parameters for a module of the archive.
#[must_use]
pub fn module_options(file: &str) -> &'static str {
    if file == CORE { CORE_OPTIONS } else { "" }
}

/// True if a watchdog is armed.
#[must_use]
pub fn is_armed() -> bool {
    ARMED.get().is_some()
}

/// Arms the watchdog if there is one and none is armed. Called after each module of the archive's
/// first group, and when all modules are loaded.
pub fn arm() {
    if is_armed() {
        return;
    }
    match rustix::fs::open(DEVICE, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty()) {
        Ok(device) => start(device),
        Err(Errno::NOENT) => {}
        Err(error) => kmsg::warn(format_args!("cannot open {DEVICE}: {error}")),
    }
}

/// Sets the timeout of a watchdog that opening it has started, and reports it.
fn start(device: OwnedFd) {
    let identity = identity(&device);
    if let Err(error) = set_timeout(&device, TIMEOUT) {
        kmsg::warn(format_args!("cannot set the watchdog to {} s: {error}", TIMEOUT.as_secs()));
    }
    let mut status = 0_i32;
    // SAFETY: the request stores one int (watchdog-api.rst).
    unsafe { libc::ioctl(device.as_raw_fd(), GETBOOTSTATUS, &raw mut status) };
    if status & CARDRESET != 0 {
        kmsg::warn("the watchdog reset the machine: the last boot had hung");
    }
    let seconds = TIMEOUT.as_secs();
    kmsg::notice(format_args!("watchdog {identity} armed, {seconds} s"));
    if identity.starts_with("Software") {
        kmsg::warn("no hardware watchdog: softdog catches a hung PID 1 but not a hung kernel");
    }
    let _ = ARMED.set(device);
}

/// Warns if the machine has no watchdog. Called after the last module of the archive.
pub fn report_missing() {
    if !is_armed() {
        kmsg::warn("no watchdog: a hung machine stays hung forever");
    }
}

/// Feeds the watchdog.
pub fn feed() {
    if let (Some(device), false) = (ARMED.get(), LAST.load(Ordering::Relaxed)) {
        // Any byte but `V`, which announces an orderly close.
        let _ = rustix::io::write(device, b"k");
    }
}

/// Sets the timeout for a shutdown, once: the machine is reset [`MARGIN`] after `deadline` if it is
/// not down.
///
/// If the watchdog cannot wait that long, the loop continues to feed it.
pub fn feed_for_the_last_time(deadline: Duration) {
    let Some(device) = ARMED.get() else { return };
    match set_timeout(device, deadline + MARGIN) {
        Ok(()) => {
            feed();
            LAST.store(true, Ordering::Relaxed);
        }
        Err(error) => kmsg::warn(format_args!("cannot set the watchdog for the shutdown: {error}")),
    }
}

/// Stops the watchdog of a machine that must stay halted. It is an error if the watchdog continues
/// (`nowayout`). Makes system calls only.
pub fn disarm() -> std::io::Result<()> {
    let Some(device) = ARMED.get() else { return Ok(()) };
    LAST.store(true, Ordering::Relaxed);
    let disable = DISABLE;
    // Some drivers require the byte that announces an orderly close.
    let _ = rustix::io::write(device, b"V");
    // SAFETY: the request reads one int (watchdog-api.rst).
    match unsafe { libc::ioctl(device.as_raw_fd(), SETOPTIONS, &raw const disable) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}

fn set_timeout(device: &OwnedFd, time: Duration) -> std::io::Result<()> {
    let mut seconds = i32::try_from(time.as_secs()).unwrap_or(i32::MAX);
    // SAFETY: the request reads and stores one int (watchdog-api.rst).
    match unsafe { libc::ioctl(device.as_raw_fd(), SETTIMEOUT, &raw mut seconds) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}

fn identity(device: &OwnedFd) -> String {
    let mut info = Info { options: 0, firmware_version: 0, identity: [0; 32] };
    // SAFETY: the request stores a watchdog_info, which `Info` is.
    unsafe { libc::ioctl(device.as_raw_fd(), GETSUPPORT, &raw mut info) };
    let end = info.identity.iter().position(|&byte| byte == 0).unwrap_or(info.identity.len());
    String::from_utf8_lossy(&info.identity[..end]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::{GETBOOTSTATUS, GETSUPPORT, Info, SETOPTIONS, SETTIMEOUT, module_options};

    /// `_IOC` of include/uapi/asm-generic/ioctl.h, for x86 and arm64.
    fn request(direction: u64, number: u64, size: usize) -> u64 {
        direction << 30 | (size as u64) << 16 | u64::from(b'W') << 8 | number
    }

    #[test]
    fn requests_are_those_of_the_header() {
        let int = size_of::<i32>();
        assert_eq!(GETSUPPORT, request(2, 0, size_of::<Info>()));
        assert_eq!(GETBOOTSTATUS, request(2, 2, int));
        assert_eq!(SETOPTIONS, request(2, 4, int));
        assert_eq!(SETTIMEOUT, request(3, 6, int));
    }

    #[test]
    fn only_the_core_gets_the_option_that_keeps_it_running_during_a_reboot() {
        assert_eq!(module_options("watchdog.ko"), "stop_on_reboot=0");
        assert_eq!(module_options("i6300esb.ko"), "");
    }
}
