//! Programs that the host needs and that are this binary under another name.
//!
//! Those in `/usr/bin` are what kubelet, containers and the kernel call; the `kiln-` ones have no
//! file and are only started by PID 1.

use std::ffi::{CStr, CString, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use anyhow::{Context, Result};
use kiln_contract::cgroup as groups;
use kiln_contract::path::APPLETS;
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};

use crate::kernel::cgroup;
use crate::process::spawn::{self, Child, Program};
use crate::shutdown::{reason, signals};
use crate::timeline::loader;

pub mod args;
pub mod journalctl;
pub mod modprobe;
pub mod mount;
pub mod umount;

/// Loads modules for the hardware that is there, beside containerd's start.
pub const COLDPLUG: &CStr = c"kiln-coldplug";

/// Loads modules for hardware that appeared later.
pub const HOTPLUG: &CStr = c"kiln-hotplug";

/// Saves what a kernel that crashed left behind.
pub const CRASH: &CStr = c"kiln-crash";

/// Gives kubelet the pods that wait for the network.
pub const LATE_PODS: &CStr = c"kiln-late-pods";

/// Reads what a boot loader noted of its times.
pub const LOADER: &CStr = c"kiln-loader-times";

/// Loads drivers of disks.
pub const DISKS: &CStr = c"kiln-disks";

/// Reads a file into the page cache.
pub const READAHEAD: &CStr = c"kiln-readahead";

/// Exit status for wrong usage.
const USAGE: i32 = 2;

/// Runs the applet called `name` and returns its exit status.
#[must_use]
pub fn run(name: &str, args: &[OsString]) -> i32 {
    let args: Vec<String> = args.iter().map(|arg| arg.to_string_lossy().into_owned()).collect();
    match name {
        "mount" => mount::run(&args),
        "umount" => umount::run(&args),
        "journalctl" => journalctl::run(&args),
        "modprobe" => modprobe::run(&args),
        "poweroff" => ask(signals::POWER_OFF),
        "reboot" => ask(signals::REBOOT),
        "init" if args == ["--version"] => {
            println!("kiln-init {}", env!("CARGO_PKG_VERSION"));
            0
        }
        "kiln-coldplug" => crate::devices::coldplug::run(),
        "kiln-hotplug" => crate::devices::coldplug::hotplug(&args),
        "kiln-crash" => crate::shutdown::crash::run(),
        "kiln-late-pods" => crate::boot::late_pods::run(),
        "kiln-loader-times" => loader::run(),
        "kiln-disks" => crate::storage::data::run(),
        "kiln-readahead" => read_ahead(&args),
        "kiln-last-boot" => reason::run(&args),
        "kiln-keep-reason" => reason::run_keeper(&args),
        _ => {
            eprintln!("{name}: not an applet; there are {}", APPLETS.join(", "));
            USAGE
        }
    }
}

/// Starts this binary under another name, as a process that shares nothing with PID 1: it may
/// allocate and hang. The descriptor becomes readable when its `execve` came to its result, which
/// takes as long as a whole stage under emulation.
pub fn start(name: &CStr, args: &[&str]) -> Result<(Child, OwnedFd)> {
    let null = std::fs::File::options().write(true).open("/dev/null").context("open /dev/null")?;
    start_into(name, args, null.as_fd())
}

/// Starts this binary under another name, and returns where its answer can be read.
pub fn question(name: &CStr) -> Result<OwnedFd> {
    let (answer, output) = pipe_with(PipeFlags::CLOEXEC).context("make a pipe")?;
    start_into(name, &[], output.as_fd())?;
    Ok(answer)
}

fn start_into(name: &CStr, args: &[&str], output: BorrowedFd<'_>) -> Result<(Child, OwnedFd)> {
    let args = args.iter().map(|arg| CString::new(*arg));
    let program = Program {
        path: spawn::SELF.into(),
        args: std::iter::once(Ok(name.into())).chain(args).collect::<Result<_, _>>()?,
        env: Vec::new(),
        oom_score: c"0",
    };
    let group = cgroup::open(groups::INIT)?;
    spawn::begin(&program, Some(group.as_fd()), output)
}

/// strerror(3)'s text, which is what other programs' messages have.
fn describe(error: Errno) -> String {
    let text = std::io::Error::from(error).to_string();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}

/// Asks PID 1 for a shutdown by a signal, which needs no file system. Also the kernel calls this.
fn ask(signal: i32) -> i32 {
    // SAFETY: kill has no memory effects.
    if unsafe { libc::kill(1, signal) } == 0 {
        return 0;
    }
    eprintln!("cannot signal PID 1: {}", std::io::Error::last_os_error());
    1
}

fn read_ahead(args: &[String]) -> i32 {
    i32::from(args.iter().any(|file| crate::boot::root::read_ahead(Path::new(file)).is_err()))
}
