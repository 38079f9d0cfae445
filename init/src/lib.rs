//! Kiln's PID 1 and the host programs that it replaces, in one static binary.
//!
//! [`boot`] has the whole boot on one screen. Code that decides (parsers, plans, the supervisor) is
//! pure and tested; code that touches the machine is thin. `docs/boot.md` describes the boot for
//! people.

use std::ffi::OsString;
use std::path::Path;

pub mod applet;
pub mod boot;
pub mod console;
pub mod containerd;
pub mod devices;
pub mod kernel;
pub mod kubelet;
pub mod log;
pub mod login1;
pub mod machine;
pub mod modules;
pub mod process;
pub mod settings;
pub mod shutdown;
pub mod storage;
pub mod supervise;
pub mod timeline;

/// Runs the program that the first argument names and returns its exit status. As PID 1 it does not
/// return.
#[must_use]
pub fn run(mut args: impl Iterator<Item = OsString>) -> i32 {
    let name = args.next().unwrap_or_default();
    let name = Path::new(&name).file_name().unwrap_or_default().to_owned();
    let rest: Vec<OsString> = args.collect();
    if rustix::process::getpid().is_init() {
        boot::run();
    }
    applet::run(&name.to_string_lossy(), &rest)
}
