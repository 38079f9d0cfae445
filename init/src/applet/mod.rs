//! The programs that this binary runs under other names: applets and helpers.
//!
//! Applets are links in `/usr/bin` for kubelet, containers and the kernel. Helpers have no file;
//! only PID 1 starts them ([`crate::process::helper`]).

use std::ffi::OsString;

use kiln_contract::path::APPLETS;

use crate::boot::late_pods;
use crate::devices::{coldplug, disk};
use crate::kernel::page_cache;
use crate::process::helper::Helper;
use crate::shutdown::{crash, reason, signals};
use crate::storage::{drivers, grow};
use crate::timeline::loader;

mod errno;
pub mod journalctl;
pub mod losetup;
pub mod modprobe;
pub mod mount;
pub mod nfs;
mod power;
mod resolve;
pub mod umount;

/// The exit status for wrong usage.
const USAGE: i32 = 2;

/// Runs the applet or helper called `name` and returns its exit status.
#[must_use]
pub fn run(name: &str, args: &[OsString]) -> i32 {
    let args: Vec<String> = args.iter().map(|arg| arg.to_string_lossy().into_owned()).collect();
    if let Some(helper) = Helper::from_name(name) {
        return run_helper(helper, &args);
    }
    match name {
        "mount" => mount::run(&args),
        "umount" => umount::run(&args),
        "losetup" => losetup::run(&args),
        "journalctl" => journalctl::run(&args),
        "modprobe" => modprobe::run(&args),
        "poweroff" => power::ask(signals::POWER_OFF),
        "reboot" => power::ask(signals::REBOOT),
        "init" if args == ["--version"] => {
            println!("kiln-init {}", env!("CARGO_PKG_VERSION"));
            0
        }
        _ => {
            eprintln!("{name}: not an applet; there are {}", APPLETS.join(", "));
            USAGE
        }
    }
}

fn run_helper(helper: Helper, args: &[String]) -> i32 {
    match helper {
        Helper::Coldplug => coldplug::run(args),
        Helper::Hotplug => coldplug::hotplug(args),
        Helper::DiskLinks => disk::run(args),
        Helper::Crash => crash::run(),
        Helper::LatePods => late_pods::run(),
        Helper::LoaderTimes => loader::run(),
        Helper::Disks => drivers::run(),
        Helper::GrowData => grow::run(args),
        Helper::ReadAhead => page_cache::run(args),
        Helper::LastBoot => reason::run(args),
        Helper::KeepReason => reason::run_keeper(args),
    }
}
