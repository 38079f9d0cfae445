//! Child processes: services in their control groups, and helpers that may hang.
//!
//! Between `clone3` and `execve` the code may only do what is safe after a fork (signal-safety(7)):
//! plain system calls, which rustix makes without the C library, and no allocation.
//! [`become_program`] resets everything that a child must not inherit. `clone3` puts the child into
//! its group and returns a pidfd in one step, so that a child never runs in PID 1's group and a
//! signal never hits a recycled pid.

use std::ffi::{CStr, CString, c_char};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{Mode, OFlags};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, Resource, Rlimit, Signal, WaitOptions};

use kiln_base::time::timespec;

/// `CLONE_CLEAR_SIGHAND`, `CLONE_INTO_CGROUP` and `CLONE_PIDFD` of include/uapi/linux/sched.h.
const CLEAR_SIGHAND: u64 = 0x1_0000_0000;
const INTO_CGROUP: u64 = 0x2_0000_0000;
const PIDFD: u64 = 0x1000;

/// `_NSIG` of include/uapi/asm-generic/signal.h.
const SIGNALS: i32 = 64;

/// The limit of open files for services, as in upstream's unit files and container runtimes.
const OPEN_FILES: u64 = 1_048_576;

/// The time limit for `execve`, after which the child counts as started. It reads only from memory.
const EXEC_DEADLINE: Duration = Duration::from_secs(10);

/// This binary. The path works although the file is unlinked, and needs no page of the root.
pub const SELF: &CStr = c"/proc/self/exe";

/// A program to start. All memory is allocated before the fork.
#[derive(Debug)]
pub struct Program {
    /// The path of the executable.
    pub path: CString,
    /// The arguments, with `argv[0]`.
    pub args: Vec<CString>,
    /// The environment, `NAME=VALUE`.
    pub env: Vec<CString>,
    /// `oom_score_adj`, as text.
    pub oom_score: &'static CStr,
}

/// A running child.
#[derive(Debug)]
pub struct Child {
    /// The process id.
    pub pid: Pid,
    pidfd: OwnedFd,
}

impl Child {
    /// Sends a signal. A child that has ended is not an error.
    pub fn signal(&self, signal: Signal) {
        let _ = rustix::process::pidfd_send_signal(&self.pidfd, signal);
    }

    /// Waits for the end of the child and returns its exit status, or `None` after `within`. It
    /// reaps the child, so it is for helpers only.
    #[must_use]
    pub fn wait(&self, within: Duration) -> Option<i32> {
        let mut fds = [PollFd::new(&self.pidfd, PollFlags::IN)];
        poll(&mut fds, Some(&timespec(within))).ok().filter(|&ready| ready > 0)?;
        let (_, status) = rustix::process::waitpid(Some(self.pid), WaitOptions::NOHANG).ok()??;
        status.exit_status()
    }
}

/// Clears PID 1's environment and core limit, which children would inherit.
///
/// The kernel passes parameters that it does not know as environment variables, which could change
/// the behaviour of this program.
pub fn shed() {
    // SAFETY: at this point there is one thread, and no pointer into the environment.
    unsafe { libc::clearenv() };
    set_limit(Resource::Core, Some(0));
}

/// Starts a program in a group, or in this process' own group, with its output going to `output`.
/// Returns after `execve` has succeeded.
pub fn start(
    program: &Program,
    group: Option<BorrowedFd<'_>>,
    output: BorrowedFd<'_>,
) -> Result<Child> {
    let (child, reader) = begin(program, group, output)?;
    match exec_error(&reader) {
        None => Ok(child),
        Some(error) => {
            let _ = rustix::process::waitpid(Some(child.pid), WaitOptions::empty());
            Err(error).with_context(|| format!("cannot start {}", program.path.to_string_lossy()))
        }
    }
}

/// Starts a program without waiting for its `execve`.
///
/// Returns the child and the pipe that the errno of a failed `execve` comes through.
pub fn begin(
    program: &Program,
    group: Option<BorrowedFd<'_>>,
    output: BorrowedFd<'_>,
) -> Result<(Child, OwnedFd)> {
    let args = pointers(&program.args);
    let env = pointers(&program.env);
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).context("cannot make a pipe")?;
    // SAFETY: the child calls only `become_program`, which is async-signal-safe.
    if let Some(child) = unsafe { fork(group) }.context("cannot clone PID 1")? {
        return Ok((child, reader));
    }
    let error = become_program(program, &args, &env, output);
    report_and_exit(&writer, error)
}

/// Runs `work` in a child that shares only the mounts with PID 1, so that `work` may hang.
///
/// # Safety
///
/// `work` must be async-signal-safe. This function is async-signal-safe too, because a child may
/// call it.
pub unsafe fn helper(work: impl FnOnce() -> i32) -> io::Result<Child> {
    // SAFETY: the caller's promise.
    if let Some(child) = unsafe { fork(None) }? {
        return Ok(child);
    }
    let status = work();
    // SAFETY: _exit has no preconditions.
    unsafe { libc::_exit(status) }
}

fn pointers(strings: &[CString]) -> Vec<*const c_char> {
    strings.iter().map(|text| text.as_ptr()).chain(std::iter::once(std::ptr::null())).collect()
}

/// Calls `clone3` like fork(2): returns `None` in the child.
///
/// # Safety
///
/// The child may only make async-signal-safe calls.
unsafe fn fork(group: Option<BorrowedFd<'_>>) -> io::Result<Option<Child>> {
    let mut pidfd: i32 = -1;
    // SAFETY: clone_args is plain integers, for which zero is valid and means "not given".
    let mut args: libc::clone_args = unsafe { MaybeUninit::zeroed().assume_init() };
    args.flags = PIDFD | CLEAR_SIGHAND;
    args.pidfd = (&raw mut pidfd).addr() as u64;
    args.exit_signal = libc::SIGCHLD as u64;
    if let Some(group) = group {
        args.flags |= INTO_CGROUP;
        args.cgroup = u64::try_from(group.as_raw_fd()).unwrap_or_default();
    }
    // SAFETY: `args` is a valid clone_args of the size given; without CLONE_VM it is a fork.
    let pid =
        unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of::<libc::clone_args>()) };
    match pid {
        0 => Ok(None),
        1.. => {
            let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
            let pid = pid.ok_or_else(|| io::Error::other("clone3 returned no pid"))?;
            // SAFETY: with CLONE_PIDFD the kernel stored a new descriptor that has no
            // other owner.
            Ok(Some(Child { pid, pidfd: unsafe { OwnedFd::from_raw_fd(pidfd) } }))
        }
        _ => Err(io::Error::last_os_error()),
    }
}

/// Resets everything that the child must not inherit and executes the program. Returns the errno on
/// failure. Runs in the child.
///
/// `CLONE_CLEAR_SIGHAND` has reset the signal handlers, but not ignored signals and the signal
/// mask. The session, the OOM score and the limits follow, then the descriptors: 0 to 2 are set,
/// all others close on exec.
fn become_program(
    program: &Program,
    args: &[*const c_char],
    env: &[*const c_char],
    output: BorrowedFd<'_>,
) -> i32 {
    stop_ignoring_signals();
    clear_signal_mask();
    set_limit(Resource::Nofile, Some(OPEN_FILES));
    // Without this, all pods of one user id would share the number that the kernel computed for PID 1
    // from the memory.
    set_limit(Resource::Nproc, None);
    set_limit(Resource::Core, Some(0));
    write_oom_score(program.oom_score);
    let _ = rustix::process::setsid();
    if let Ok(null) = rustix::fs::open(c"/dev/null", OFlags::RDONLY, Mode::empty()) {
        // If this process has no standard input, the file has descriptor 0 already.
        let _ = rustix::stdio::dup2_stdin(&null);
        std::mem::forget(null);
    }
    let _ = rustix::stdio::dup2_stdout(output);
    let _ = rustix::stdio::dup2_stderr(output);
    // SAFETY: nothing is closed before execve; no memory is touched.
    unsafe { libc::syscall(libc::SYS_close_range, 3, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    // SAFETY: both arrays end with a null pointer and point into `program`, which outlives this.
    unsafe { libc::execve(program.path.as_ptr(), args.as_ptr(), env.as_ptr()) };
    io::Error::last_os_error().raw_os_error().unwrap_or(libc::ENOEXEC)
}

/// Uses the system call, because the C library keeps two signals to itself.
fn stop_ignoring_signals() {
    // The kernel's sigaction: handler, flags, restorer, mask. All zero is the default.
    let default = [0_usize; 4];
    let none = std::ptr::null::<usize>();
    for signal in 1..=SIGNALS {
        // SAFETY: `default` is a sigaction, and its mask has the 8 bytes that are
        // announced. For SIGKILL and SIGSTOP the call returns an error.
        unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, default.as_ptr(), none, 8_usize) };
    }
}

fn clear_signal_mask() {
    let mut none = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: sigemptyset initialises the set.
    unsafe { libc::sigemptyset(none.as_mut_ptr()) };
    // SAFETY: the set was just initialised, and no old set is asked for.
    unsafe { libc::sigprocmask(libc::SIG_SETMASK, none.as_ptr(), std::ptr::null_mut()) };
}

/// Sets a limit to a value, or to infinity.
fn set_limit(resource: Resource, value: Option<u64>) {
    let limit = Rlimit { current: value, maximum: value };
    let _ = rustix::process::setrlimit(resource, limit);
}

fn write_oom_score(score: &CStr) {
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    if let Ok(fd) = rustix::fs::open(c"/proc/self/oom_score_adj", flags, Mode::empty()) {
        let _ = rustix::io::write(&fd, score.to_bytes());
    }
}

fn report_and_exit(writer: &OwnedFd, error: i32) -> ! {
    let _ = rustix::io::write(writer, &error.to_ne_bytes());
    // SAFETY: _exit has no preconditions.
    unsafe { libc::_exit(127) }
}

/// Returns the errno that the child wrote, or `None` once `execve` has closed the pipe.
fn exec_error(reader: &OwnedFd) -> Option<io::Error> {
    let mut fds = [PollFd::from_borrowed_fd(reader.as_fd(), PollFlags::IN)];
    let ready = poll(&mut fds, Some(&timespec(EXEC_DEADLINE))).unwrap_or(0);
    let mut bytes = [0_u8; 4];
    if ready > 0 && rustix::io::read(reader, &mut bytes) == Ok(4) {
        return Some(io::Error::from_raw_os_error(i32::from_ne_bytes(bytes)));
    }
    None
}
