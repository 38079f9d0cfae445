//! A program as the first process of a PID namespace, as in a container, where a signal without a
//! handler is ignored (`pid_namespaces(7)`); shared by the tests of the daemons.

use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command};

use rustix::process::{Pid, Signal, WaitOptions, set_parent_process_death_signal};
use rustix::thread::{UnshareFlags, unshare_unsafe};

/// The same command in a namespace of its own; what is started is the parent of the program, ends
/// with it, and as it does.
pub fn inside(mut command: Command) -> Command {
    // SAFETY: between fork and exec it makes system calls only, which is all that may be done there.
    unsafe { command.pre_exec(become_pid_1) };
    command
}

/// The program, after it has been started; it is checked to be the first process.
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
    // SAFETY: nobody else has this process's files, since it was forked just now.
    unsafe { unshare_unsafe(UnshareFlags::NEWUSER | UnshareFlags::NEWPID) }?;
    // SAFETY: it has one thread.
    match unsafe { libc::fork() } {
        0 => Ok(set_parent_process_death_signal(Some(Signal::KILL))?),
        1.. => {
            // SAFETY: nothing here uses a descriptor any more; who waits for exec, and who reads the
            // log, must not wait for this process.
            unsafe { libc::close_range(0, libc::c_uint::MAX, 0) };
            let status = rustix::process::wait(WaitOptions::empty());
            let code = status.ok().flatten().and_then(|(_, status)| status.exit_status());
            // SAFETY: _exit has no preconditions.
            unsafe { libc::_exit(code.unwrap_or(1)) }
        }
        _ => Err(std::io::Error::last_os_error()),
    }
}
