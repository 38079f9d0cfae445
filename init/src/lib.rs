//! Kiln's PID 1 and the host programs it stands in for, in one static binary.
//!
//! [`boot`] has the whole boot on one screen. Everything that decides (parsers, plans, the
//! supervisor) is a pure function with tests; what touches the machine is thin.
//! `docs/boot.md` is the description for people.

use std::ffi::OsString;
use std::path::Path;

pub mod applet;
pub mod boot;
pub mod cgroup;
pub mod config;
pub mod counter;
pub mod crash;
pub mod credential;
pub mod cure;
pub mod data;
pub mod deadline;
pub mod devices;
pub mod efivar;
pub mod evdev;
pub mod gpt;
pub mod hooks;
pub mod identity;
pub mod kmsg;
pub mod loader;
pub mod log;
pub mod login1;
pub mod modules;
pub mod mountinfo;
pub mod mounts;
pub mod network;
pub mod notify;
pub mod once;
pub mod parameters;
pub mod pod_logs;
pub mod power;
pub mod probe;
pub mod reason;
pub mod root;
pub mod rtc;
pub mod shutdown;
pub mod signals;
pub mod smbios;
pub mod spawn;
pub mod supervise;
pub mod sysctl;
pub mod timeline;
pub mod uevent;
pub mod watchdog;

/// Does what `argv[0]` asks for and returns the exit status. As PID 1 it does not return.
#[must_use]
pub fn run() -> i32 {
    let mut args = std::env::args_os();
    let name = args.next().unwrap_or_default();
    let name = Path::new(&name).file_name().unwrap_or_default().to_owned();
    let rest: Vec<OsString> = args.collect();
    if rustix::process::getpid().is_init() {
        boot::run();
    }
    applet::run(&name.to_string_lossy(), &rest)
}
