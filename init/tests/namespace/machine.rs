//! A machine for the tests: a process that is PID 1 of its own namespace and runs PID 1's loop.
//!
//! It cannot reach the real machine: `/proc`, `/sys`, `/run` and `/var` are empty file systems, and
//! `reboot(2)` ends the namespace.

use std::ffi::CString;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use kiln_base::time::timespec;
use kiln_init::devices::hotplug::Devices;
use kiln_init::machine::parameters;
use kiln_init::process::spawn::{self, Program};
use kiln_init::storage::var::Var;
use kiln_init::supervise::facts::Facts;
use kiln_init::supervise::host::{Command, Host};
use kiln_init::supervise::runtime::Runtime;
use kiln_init::timeline::Stages;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::mount::MountFlags;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, Signal, WaitOptions, getgid, getuid, kill_process, waitpid};

use crate::service;

/// The path of the test's binary in the namespace.
const PROGRAM: &str = "/run/service";

/// The folder of PID 1's logs.
const LOGS: &str = kiln_init::log::stream::FOLDER;

/// The time limit of a test. It is much longer than any test takes and only ends one that hangs.
const DEADLINE: Duration = Duration::from_mins(2);

/// The divisor of the pauses between restarts: 7 ms at the cap.
const PACE: u32 = 4000;

/// The status of PID 1, seen from outside.
#[derive(Debug)]
pub struct Status {
    /// Private memory in KiB.
    pub anonymous: u64,
    /// All resident memory in KiB, pages of the test's binary included.
    #[expect(dead_code, reason = "printed")]
    pub resident: u64,
    /// Open descriptors, without those of the log's files, which are opened with a service's first
    /// line and again when they are rotated.
    pub descriptors: usize,
    /// Children that ended and were not reaped.
    pub zombies: usize,
    /// All children.
    pub children: usize,
}

/// The namespace and its PID 1.
pub struct Machine {
    pid: Pid,
    console: BufReader<File>,
}

impl Machine {
    /// Boots with services of these roles.
    pub fn boot(roles: [&str; 2]) -> Result<Self> {
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
        let flags = libc::CLONE_NEWUSER | libc::CLONE_NEWPID | libc::CLONE_NEWNS | libc::SIGCHLD;
        let ids = (getuid().as_raw(), getgid().as_raw());
        // SAFETY: without CLONE_VM it is a fork, and this process has one thread.
        let pid = unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) };
        match pid {
            0 => {
                let error = run(roles, ids, &writer);
                eprintln!("{error:#}");
                // SAFETY: _exit has no preconditions.
                unsafe { libc::_exit(1) }
            }
            1.. => {
                let pid = Pid::from_raw(i32::try_from(pid)?).context("no pid")?;
                Ok(Self { pid, console: BufReader::new(reader.into()) })
            }
            _ => Err(std::io::Error::last_os_error()).context(
                "make a user namespace (see sysctls user.max_user_namespaces, \
                 kernel.unprivileged_userns_clone, kernel.apparmor_restrict_unprivileged_userns)",
            ),
        }
    }

    /// Reads the console until a line contains `text`. Returns all lines read.
    pub fn until(&mut self, text: &str) -> Result<Vec<String>> {
        self.until_all(&[text])
    }

    /// Reads the console until a line with each of `texts` was read, in any order, because a
    /// service's output takes a different path from PID 1's lines.
    pub fn until_all(&mut self, texts: &[&str]) -> Result<Vec<String>> {
        let end = Instant::now() + DEADLINE;
        let (mut lines, mut missing): (Vec<String>, _) = (Vec::new(), texts.to_vec());
        while !missing.is_empty() {
            let line = self.line(end).with_context(|| {
                let tail = &lines[lines.len().saturating_sub(20)..];
                format!("wait for {missing:?} after {tail:#?}")
            })?;
            missing.retain(|text| !line.contains(text));
            lines.push(line);
        }
        Ok(lines)
    }

    /// Reads one line. Each line is written at once.
    fn line(&mut self, end: Instant) -> Result<String> {
        if self.console.buffer().is_empty() {
            let mut fds = [PollFd::new(self.console.get_ref(), PollFlags::IN)];
            let patience = end.saturating_duration_since(Instant::now());
            let ready = poll(&mut fds, Some(&timespec(patience)))?;
            ensure!(ready > 0, "no such line within {} s", DEADLINE.as_secs());
        }
        let mut line = String::new();
        ensure!(self.console.read_line(&mut line)? > 0, "PID 1 has ended");
        Ok(line)
    }

    fn path(&self, file: &str) -> String {
        format!("/proc/{}/root{file}", self.pid.as_raw_nonzero())
    }

    /// Stops the restarts and returns the status of PID 1.
    pub fn calm(&mut self) -> Result<Status> {
        fs::write(self.path(service::CALM_FILE), "").context("cannot write the calm file")?;
        self.until_all(&["| calm", "kubelet is ready"])?;
        self.status()
    }

    /// Kills the process that sleeps after its storm.
    pub fn storm_again(&self) -> Result<()> {
        fs::remove_file(self.path(service::CALM_FILE))?;
        // The kernel lists children in start order, and kubelet starts after containerd.
        let last = self.children()?.into_iter().next_back().context("no children")?;
        kill_process(Pid::from_raw(last).context("no pid")?, Signal::KILL).context("cannot kill it")
    }

    /// Returns the time from the end of the storm's process to the start of its successor.
    pub fn stormed(&self) -> Result<Duration> {
        let read = |file| -> Result<u64> { Ok(fs::read_to_string(self.path(file))?.parse()?) };
        let (end, next) = (read(service::STORM_END)?, read(service::STORM_NEXT)?);
        Ok(Duration::from_millis(next.saturating_sub(end)))
    }

    fn children(&self) -> Result<Vec<i32>> {
        let text =
            fs::read_to_string(format!("/proc/{0}/task/{0}/children", self.pid.as_raw_nonzero()))?;
        Ok(text.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).collect())
    }

    /// Returns the status of PID 1.
    pub fn status(&self) -> Result<Status> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid.as_raw_nonzero()))?;
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|rest| rest.trim_matches([':', '\t', ' ', 'k', 'B']).parse().ok())
        };
        let children = self.children()?;
        let is_zombie = |pid: &&i32| {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('Z'))
        };
        Ok(Status {
            anonymous: field("RssAnon").context("no RssAnon")?,
            resident: field("VmRSS").context("no VmRSS")?,
            descriptors: fs::read_dir(format!("/proc/{}/fd", self.pid.as_raw_nonzero()))?
                .flatten()
                .filter(|entry| fs::read_link(entry.path()).is_ok_and(|to| !to.starts_with(LOGS)))
                .count(),
            zombies: children.iter().filter(is_zombie).count(),
            children: children.len(),
        })
    }

    /// Waits until all ended children are reaped.
    pub fn until_all_are_reaped(&self) -> Result<()> {
        let begin = Instant::now();
        while self.status()?.zombies > 0 {
            ensure!(begin.elapsed() < DEADLINE, "orphans are not reaped");
            std::thread::yield_now();
        }
        Ok(())
    }

    /// Asks PID 1 to power off and waits until it has.
    pub fn power_off(mut self) -> Result<()> {
        kill_process(self.pid, Signal::TERM).context("cannot send SIGTERM")?;
        self.until("all stopped and synced, now power-off")?;
        let (_, status) = waitpid(Some(self.pid), WaitOptions::empty())?.context("no status")?;
        // In a namespace, reboot(2) reports a power-off as SIGINT (pid_namespaces(7)).
        let signal = status.terminating_signal();
        ensure!(signal == Some(Signal::INT.as_raw()), "PID 1 ended with {status:?}");
        Ok(())
    }
}

impl Drop for Machine {
    /// Kills PID 1, which ends the namespace.
    fn drop(&mut self) {
        if let Ok(None) = waitpid(Some(self.pid), WaitOptions::NOHANG) {
            let _ = kill_process(self.pid, Signal::KILL);
            let _ = waitpid(Some(self.pid), WaitOptions::empty());
        }
    }
}

/// Runs PID 1. Returns only if it fails.
fn run(roles: [&str; 2], ids: (u32, u32), console: &OwnedFd) -> anyhow::Error {
    let stages = Stages::begin();
    let runtime = prepare(ids).and_then(|()| {
        rustix::stdio::dup2_stderr(console)?;
        kiln_init::shutdown::signals::block();
        let host = Host {
            services: roles.map(command),
            kubelet: kiln_init::kubelet::plan::Facts::default(),
            facts: Facts::default(),
            parameters: parameters::parse("kiln.log=console"),
            cure_reboots: 0,
            graceful: false,
            // This affects only the logs; no thread watches those of pods.
            var: Var::Partition,
            pace: PACE,
            // The test's services have no gRPC server.
            probe: None,
        };
        Runtime::start(&host, Devices::listen()?)
    });
    match runtime {
        Ok(runtime) => runtime.run(stages),
        Err(error) => error,
    }
}

fn prepare((user, group): (u32, u32)) -> Result<()> {
    // A user may map only itself and must first give up setgroups(2) (user_namespaces(7)).
    fs::write("/proc/self/setgroups", "deny").context("cannot write setgroups")?;
    fs::write("/proc/self/uid_map", format!("0 {user} 1")).context("cannot write uid_map")?;
    fs::write("/proc/self/gid_map", format!("0 {group} 1")).context("cannot write gid_map")?;
    let mut program = File::open("/proc/self/exe").context("cannot open the test's binary")?;
    for folder in ["/run", "/var", "/sys", "/proc"] {
        rustix::mount::mount("tmpfs", folder, "tmpfs", MountFlags::empty(), None)
            .with_context(|| format!("cannot mount a tmpfs on {folder}"))?;
    }
    for folder in ["/run/kiln", "/var/log", "/proc/sys/kernel/random"] {
        fs::create_dir_all(folder)?;
    }
    // The only file below /proc that PID 1 needs.
    fs::write("/proc/sys/kernel/random/uuid", "00000000-0000-4000-8000-000000000000\n")?;
    std::io::copy(&mut program, &mut File::create(PROGRAM)?)?;
    fs::set_permissions(PROGRAM, fs::Permissions::from_mode(0o755))?;
    Ok(())
}

fn command(role: &str) -> Command {
    Command {
        program: PROGRAM.into(),
        args: Vec::new(),
        env: vec![format!("ROLE={role}")],
        group: None,
        oom_score: c"500",
    }
}

/// Starts a service as PID 1 does, but outside any namespace, and returns its output.
pub fn output_of(role: &str) -> Result<String> {
    let program = Program {
        path: CString::new(std::env::current_exe()?.to_str().context("the test's path")?)?,
        args: vec![c"service".into()],
        env: vec![CString::new(format!("ROLE={role}"))?],
        oom_score: c"500",
    };
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
    let child = spawn::start(&program, None, writer.as_fd())?;
    drop(writer);
    let mut output = String::new();
    File::from(reader).read_to_string(&mut output)?;
    match child.wait(DEADLINE) {
        Some(0) => Ok(output),
        status => bail!("{role} ended with {status:?}: {output}"),
    }
}
