//! A program as the first process of a PID namespace, as in a container, where the kernel ignores
//! signals without a handler (`pid_namespaces(7)`).

use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command};

use rustix::process::{Pid, Signal, WaitOptions, set_parent_process_death_signal};
use rustix::thread::{UnshareFlags, unshare_unsafe};

/// Puts a command into its own PID namespace. The child process that starts is the parent of the
/// program, and exits together with the program and with its exit code.
pub fn inside(mut command: Command) -> Command {
    // SAFETY: between fork and exec the function only makes system calls, as it must.
    unsafe { command.pre_exec(become_pid_1) };
    command
}

/// Returns the program that a child started, and checks that the program is the first process of
/// its namespace.
pub fn of(outer: &Child) -> Pid {
    let outer = outer.id();
    let children = std::fs::read_to_string(format!("/proc/{outer}/task/{outer}/children")).unwrap();
    let pid: i32 = children.trim().parse().unwrap();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let pids = status.lines().find_map(|line| line.strip_prefix("NSpid:")).unwrap();
    assert_eq!(pids.split_whitespace().last(), Some("1"), "{pids}");
    Pid::from_raw(pid).unwrap()
}

fn become_pid_1() -> std::io::Result<()> {
    // SAFETY: no other thread shares the files of this process, which was forked just now.
    unsafe { unshare_unsafe(UnshareFlags::NEWUSER | UnshareFlags::NEWPID) }?;
    // SAFETY: this process has one thread.
    match unsafe { libc::fork() } {
        0 => Ok(set_parent_process_death_signal(Some(Signal::KILL))?),
        1.. => {
            // SAFETY: this process no longer uses any descriptor. An open copy would make the test
            // wait for this process instead of the program.
            unsafe { libc::close_range(0, libc::c_uint::MAX, 0) };
            let status = rustix::process::wait(WaitOptions::empty());
            let code = status.ok().flatten().and_then(|(_, status)| status.exit_status());
            // SAFETY: _exit has no preconditions.
            unsafe { libc::_exit(code.unwrap_or(1)) }
        }
        _ => Err(std::io::Error::last_os_error()),
    }
}
