//! The hardware watchdog (Documentation/watchdog/watchdog-api.rst): resets the machine when PID 1
//! no longer turns.
//!
//! It is armed as soon as its module is loaded, fed on entry of each boot stage, and then only
//! while the supervisor's loop turns. Nothing closes it in the orderly way (`V`), so nothing that
//! goes wrong can switch it off; only a halt does, whose machine is to stay as it is. Where there is no hardware one, softdog catches a PID 1 that
//! hangs, but not a kernel that does.

use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::console::kmsg;

/// The kernel's watchdog core (`drivers/watchdog/watchdog_core.c`), as the archive has it.
const CORE: &str = "watchdog.ko";

/// Without it the core stops the watchdog as soon as `reboot(2)` begins, and nothing ends a machine
/// that hangs in there: the kernel waits for every driver first.
const CORE_OPTIONS: &str = "stop_on_reboot=0";

/// The first device, whatever drives it.
const DEVICE: &str = "/dev/watchdog0";

/// How long PID 1 may stand still: twice the longest deadline of a boot stage (30 s for `data`
/// and for `config`), so that no slow disk resets a machine, and far more than a turn of the loop.
pub const TIMEOUT: Duration = Duration::from_mins(1);

/// Between two feedings, at most. A quarter, so that a busy loop which is late once is no reset;
/// not each turn, because feeding a virtual device leaves the virtual machine.
pub const FEED: Duration = Duration::from_secs(15);

/// Beyond a shutdown's own deadline, before the watchdog ends it.
pub const MARGIN: Duration = Duration::from_secs(10);

/// `WDIOC_*` of include/uapi/linux/watchdog.h: direction, size, `W`, number.
const GETSUPPORT: u64 = 0x8028_5700;
const GETBOOTSTATUS: u64 = 0x8004_5702;
const SETOPTIONS: u64 = 0x8004_5704;
const SETTIMEOUT: u64 = 0xc004_5706;

/// `WDIOF_CARDRESET`: the last reset was the watchdog's.
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

/// Set when a shutdown has got its last time: nothing feeds any more.
static LAST: AtomicBool = AtomicBool::new(false);

/// The parameters for a module of the archive.
#[must_use]
pub fn module_options(file: &str) -> &'static str {
    if file == CORE { CORE_OPTIONS } else { "" }
}

/// True when a watchdog runs.
#[must_use]
pub fn is_armed() -> bool {
    ARMED.get().is_some()
}

/// Starts the watchdog if there is one and none runs yet. Called after each module of the archive's
/// first group, and when all are loaded.
pub fn arm() {
    if is_armed() {
        return;
    }
    match rustix::fs::open(DEVICE, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty()) {
        Ok(device) => start(device),
        Err(Errno::NOENT) => {}
        Err(error) => kmsg::warn(format_args!("open {DEVICE}: {error}")),
    }
}

/// Opening has started it; sets its time and tells the console.
fn start(device: OwnedFd) {
    let identity = identity(&device);
    if let Err(error) = set_timeout(&device, TIMEOUT) {
        kmsg::warn(format_args!("watchdog: cannot wait {} s: {error}", TIMEOUT.as_secs()));
    }
    let mut status = 0_i32;
    // SAFETY: the request stores one int (watchdog-api.rst).
    unsafe { libc::ioctl(device.as_raw_fd(), GETBOOTSTATUS, &raw mut status) };
    if status & CARDRESET != 0 {
        kmsg::warn("the watchdog ended the last boot: the machine had stopped");
    }
    let seconds = TIMEOUT.as_secs();
    kmsg::notice(format_args!("watchdog {identity} armed, {seconds} s"));
    if identity.starts_with("Software") {
        kmsg::warn("no hardware watchdog: softdog catches a hung PID 1, but no hung kernel");
    }
    let _ = ARMED.set(device);
}

/// Says that nothing guards this machine. After the last module of the archive.
pub fn report_missing() {
    if !is_armed() {
        kmsg::warn("no watchdog: what hangs, hangs for ever");
    }
}

/// Feeds it.
pub fn feed() {
    if let (Some(device), false) = (ARMED.get(), LAST.load(Ordering::Relaxed)) {
        // Any byte but `V`, which announces an orderly close.
        let _ = rustix::io::write(device, b"k");
    }
}

/// Gives a shutdown its time, once: what is not down [`MARGIN`] after `deadline` is reset.
///
/// A watchdog that cannot wait that long is fed as before, by the loop.
pub fn feed_for_the_last_time(deadline: Duration) {
    let Some(device) = ARMED.get() else { return };
    match set_timeout(device, deadline + MARGIN) {
        Ok(()) => {
            feed();
            LAST.store(true, Ordering::Relaxed);
        }
        Err(error) => kmsg::warn(format_args!("watchdog: no time for the shutdown: {error}")),
    }
}

/// Switches it off, for a machine that is to stay halted. The error is that it goes on
/// (`nowayout`). Makes system calls only.
pub fn disarm() -> std::io::Result<()> {
    let Some(device) = ARMED.get() else { return Ok(()) };
    LAST.store(true, Ordering::Relaxed);
    let disable = DISABLE;
    // The byte that announces an orderly close, for drivers that want it before they stop.
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
    fn only_the_core_is_told_to_go_on_through_a_reboot() {
        assert_eq!(module_options("watchdog.ko"), "stop_on_reboot=0");
        assert_eq!(module_options("i6300esb.ko"), "");
    }
}
