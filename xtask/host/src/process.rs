//! The one module that starts processes.
//!
//! A program gets the variables of [`crate::environment`] and no others, and its output is kept for
//! the error message. No child outlives the builder: a child is killed when its handle is dropped,
//! and has a parent-death signal in case the builder itself is killed.
//!
//! Commands are written with xshell's `cmd!` and become a [`Command`] by `into()`. xshell's own
//! ways to run a command are forbidden in `clippy.toml`, because they follow neither rule.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io::{self, BufRead, BufReader, ErrorKind};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use xshell::{Cmd, Shell};

use crate::environment::{self, BASE, Group};

/// Counts presses of ctrl-C; long loops check it with [`check_interrupt`].
static INTERRUPTS: AtomicUsize = AtomicUsize::new(0);

/// Lines of a failed program's output that an error message repeats.
const ERROR_LINES: usize = 40;

/// The longest time that a program's file may be busy. From fork to execve takes milliseconds, or
/// seconds on a host without free memory; a file that stays busy is open in another program.
const BUSY_MAX: Duration = Duration::from_secs(10);

/// The time between two attempts to start a program whose file is busy.
const BUSY_PAUSE: Duration = Duration::from_millis(5);

/// A program with its arguments and its environment, which is run once.
#[derive(Debug)]
pub struct Command {
    inner: std::process::Command,
    line: String,
    detached: bool,
}

/// A child that is killed when this is dropped, together with its process group if it has one.
#[derive(Debug)]
pub struct Running {
    child: Child,
    line: String,
    group: bool,
}

impl Command {
    /// Takes a program by its path, or by a name in `PATH`.
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        #[expect(clippy::disallowed_methods, reason = "this is the one process module")]
        let inner = std::process::Command::new(program);
        Self::wrap(inner)
    }

    /// Puts an environment of [`BASE`] below the variables that the command sets itself.
    fn wrap(mut inner: std::process::Command) -> Self {
        let own: Vec<(OsString, Option<OsString>)> =
            inner.get_envs().map(|(name, value)| (name.into(), value.map(Into::into))).collect();
        inner.env_clear().envs(BASE.present());
        inner.env("LC_ALL", "C.UTF-8").env("TZ", "UTC").stdin(Stdio::null());
        for (name, value) in own {
            match value {
                Some(value) => inner.env(name, value),
                None => inner.env_remove(name),
            };
        }
        let mut line = inner.get_program().to_string_lossy().into_owned();
        for arg in inner.get_args() {
            line.push(' ');
            line.push_str(&arg.to_string_lossy());
        }
        Self { inner, line, detached: false }
    }

    /// Passes on a group of the user's variables.
    #[must_use]
    pub fn with(mut self, group: Group) -> Self {
        self.inner.envs(group.present());
        self
    }

    /// Passes on the user's whole environment, for the user's own cargo, which tests this workspace.
    /// A build step never uses this.
    #[must_use]
    pub fn with_whole_environment(mut self) -> Self {
        self.inner.envs(environment::whole());
        self
    }

    /// Adds one argument.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.line.push(' ');
        self.line.push_str(&arg.as_ref().to_string_lossy());
        self.inner.arg(arg);
        self
    }

    /// Adds several arguments.
    #[must_use]
    pub fn args<A: AsRef<OsStr>>(self, args: impl IntoIterator<Item = A>) -> Self {
        args.into_iter().fold(self, Self::arg)
    }

    /// Sets one environment variable.
    #[must_use]
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.inner.env(name, value);
        self
    }

    /// Sets the umask (umask(2)).
    #[must_use]
    pub fn umask(mut self, mask: u32) -> Self {
        let set = move || {
            rustix::process::umask(rustix::fs::Mode::from_raw_mode(mask));
            Ok(())
        };
        // SAFETY: umask(2) is async-signal-safe and the closure does not allocate.
        unsafe { self.inner.pre_exec(set) };
        self
    }

    /// Runs in this folder.
    #[must_use]
    pub fn dir(mut self, dir: &Path) -> Self {
        self.inner.current_dir(dir);
        self
    }

    /// Gives the program a process group of its own, so that ctrl-C on the terminal does not reach it.
    #[must_use]
    pub fn own_group(mut self) -> Self {
        self.inner.process_group(0);
        self.detached = true;
        self
    }

    /// Restricts the program to one processor, by the kernel's number.
    #[must_use]
    pub fn on_core(mut self, core: usize) -> Self {
        let mut set = rustix::thread::CpuSet::new();
        set.set(core);
        let pin = move || Ok(rustix::thread::sched_setaffinity(None, &set)?);
        // SAFETY: sched_setaffinity(2) is async-signal-safe and the closure does not allocate.
        unsafe { self.inner.pre_exec(pin) };
        self
    }

    /// Connects the standard input to a pipe; without this it is `/dev/null`.
    #[must_use]
    pub fn piped(mut self) -> Self {
        self.inner.stdin(Stdio::piped());
        self
    }

    /// Redirects the output; without this both streams are inherited.
    #[must_use]
    pub fn output_to(mut self, stdout: Stdio, stderr: Stdio) -> Self {
        self.inner.stdout(stdout).stderr(stderr);
        self
    }

    /// Starts the program.
    pub fn spawn(mut self) -> Result<Running> {
        check_interrupt()?;
        end_with_parent(&mut self.inner);
        let child = self.start()?;
        Ok(Running { child, line: self.line, group: self.detached })
    }

    /// Runs the program to completion and returns its standard output, like [`Command::output`].
    pub fn read(self) -> Result<String> {
        let output = self.output()?;
        String::from_utf8(output.stdout).context("its output is not UTF-8")
    }

    /// Runs the program to completion and returns its output. A status other than 0 is an error with
    /// the last lines of the output.
    pub fn output(mut self) -> Result<Output> {
        check_interrupt()?;
        end_with_parent(&mut self.inner);
        self.inner.stdout(Stdio::piped()).stderr(Stdio::piped());
        let output = self.start()?.wait_with_output();
        let output =
            output.with_context(|| format!("cannot read the output of `{}`", self.line))?;
        check_interrupt()?;
        if !output.status.success() {
            bail!("{}\n{}", failed(&self.line, output.status), last_lines(&output));
        }
        Ok(output)
    }
}

impl Command {
    fn start(&mut self) -> Result<Child> {
        retry_while_busy(|| self.inner.spawn())
            .with_context(|| explain_start(&self.inner, &self.line))
    }

    /// Runs the program to completion and passes each line of its standard error to `line` as it
    /// comes.
    pub fn watch(mut self, mut line: impl FnMut(&str)) -> Result<()> {
        self.inner.stdout(Stdio::null()).stderr(Stdio::piped());
        let mut running = self.spawn()?;
        let mut last: std::collections::VecDeque<String> = std::collections::VecDeque::new();
        if let Some(stderr) = running.child.stderr.take() {
            for text in BufReader::new(stderr).split(b'\n') {
                let text =
                    text.with_context(|| format!("cannot read the output of `{}`", running.line))?;
                let text = String::from_utf8_lossy(&text).into_owned();
                line(&text);
                if last.len() == ERROR_LINES {
                    last.pop_front();
                }
                last.push_back(text);
            }
        }
        running.wait().map_err(|error| {
            let lines: Vec<String> = last.into();
            anyhow::anyhow!("{error}\n{}", lines.join("\n"))
        })
    }
}

impl From<Cmd<'_>> for Command {
    /// Converts a command of `cmd!`, with the variables that it sets and without the shell's.
    fn from(command: Cmd<'_>) -> Self {
        Self::wrap(command.into())
    }
}

/// Returns the shell that `cmd!` needs: it has the folder of the builder, and no variables.
pub fn shell() -> Result<Shell> {
    Shell::new().context("cannot find the current folder")
}

impl Running {
    /// The child, with the pipes that [`Command::output_to`] made.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Waits until the child exits. A status other than 0 is an error.
    pub fn wait(mut self) -> Result<()> {
        let status =
            self.child.wait().with_context(|| format!("cannot wait for `{}`", self.line))?;
        check_interrupt()?;
        if status.success() { Ok(()) } else { bail!("{}", failed(&self.line, status)) }
    }

    /// Requests that the child stop (SIGTERM), together with its process group if it has one: a server may
    /// have workers that do not end with it.
    pub fn terminate(&self) -> Result<()> {
        let pid = rustix::process::Pid::from_raw(self.child.id().cast_signed());
        let pid = pid.with_context(|| format!("`{}` has no process id", self.line))?;
        let signal = rustix::process::Signal::TERM;
        let sent = if self.group {
            rustix::process::kill_process_group(pid, signal)
        } else {
            rustix::process::kill_process(pid, signal)
        };
        sent.with_context(|| format!("cannot stop `{}`", self.line))
    }

    /// Returns the child's status if it has exited.
    pub fn try_wait(&mut self) -> Result<Option<ExitStatus>> {
        self.child.try_wait().with_context(|| format!("cannot wait for `{}`", self.line))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            if self.group
                && let Some(group) = rustix::process::Pid::from_raw(self.child.id().cast_signed())
            {
                // Fails only if the group is gone already, which is the aim.
                let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
            }
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// Makes ctrl-C and SIGTERM set a flag instead of killing the builder at once, so that the builder
/// can remove unfinished files.
pub fn watch_interrupt() -> Result<()> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        // SAFETY: the handler only adds to an atomic, which is async-signal-safe.
        unsafe { signal_hook::low_level::register(signal, interrupt) }
            .with_context(|| format!("cannot catch signal {signal}"))?;
    }
    Ok(())
}

/// True if ctrl-C has been pressed.
#[must_use]
pub fn interrupted() -> bool {
    interrupts() > 0
}

/// The number of presses of ctrl-C.
#[must_use]
pub fn interrupts() -> usize {
    INTERRUPTS.load(Ordering::Relaxed)
}

/// Stops everything at its next check, as ctrl-C does.
pub fn interrupt() {
    INTERRUPTS.fetch_add(1, Ordering::Relaxed);
}

/// A message about ctrl-C itself, which the user must see in place of the general one.
#[derive(Debug)]
pub struct Stopped(pub &'static str);

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for Stopped {}

/// Fails if ctrl-C has been pressed; long loops call this.
pub fn check_interrupt() -> Result<()> {
    if interrupted() {
        bail!("interrupted; finished steps are kept, and the same command continues from there")
    }
    Ok(())
}

/// Calls `start` again while the program's file is open for writing (ETXTBSY of execve(2)).
///
/// The builder closes a program's file before it starts the program, but a child that another thread
/// forked in between holds a copy of the descriptor until its own execve closes it.
fn retry_while_busy<T>(mut start: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    let until = Instant::now() + BUSY_MAX;
    loop {
        match start() {
            Err(error)
                if error.kind() == ErrorKind::ExecutableFileBusy && Instant::now() < until =>
            {
                thread::sleep(BUSY_PAUSE);
            }
            result => return result,
        }
    }
}

fn end_with_parent(command: &mut std::process::Command) {
    let set = || {
        Ok(rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?)
    };
    // SAFETY: prctl(2) is async-signal-safe and the closure does not allocate.
    unsafe { command.pre_exec(set) };
}

fn explain_start(command: &std::process::Command, line: &str) -> String {
    let program = command.get_program().to_string_lossy();
    if Path::new(&*program).is_absolute() {
        return format!("cannot start `{line}`");
    }
    format!("cannot start `{line}`: is `{program}` installed and in PATH?")
}

fn failed(line: &str, status: ExitStatus) -> String {
    format!("`{line}` failed: {status}")
}

fn last_lines(output: &Output) -> String {
    let text = [&output.stdout[..], &output.stderr[..]].concat();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(ERROR_LINES)..].join("\n")
}

#[cfg(test)]
mod tests {
    use xshell::cmd;

    use super::*;

    #[test]
    fn a_failure_repeats_the_last_lines_of_the_program() {
        let error =
            Command::new("sh").args(["-c", "echo told; exit 3"]).read().unwrap_err().to_string();
        assert!(error.contains("told") && error.contains("exit status: 3"), "{error}");
    }

    #[test]
    fn the_workers_of_a_group_end_with_it() {
        let script = "sleep infinity & echo started; wait";
        let command = Command::new("sh").args(["-c", script]).own_group();
        let mut running = command.output_to(Stdio::piped(), Stdio::inherit()).spawn().unwrap();
        let mut output = BufReader::new(running.child().stdout.take().unwrap());
        output.read_line(&mut String::new()).unwrap();
        running.terminate().unwrap();
        let (sender, ended) = std::sync::mpsc::channel();
        // The worker holds the pipe, so its end is the end of both.
        thread::spawn(move || sender.send(output.read_line(&mut String::new()).is_ok()));
        assert_eq!(ended.recv_timeout(Duration::from_mins(1)), Ok(true));
    }

    #[test]
    fn a_missing_program_is_named() {
        let error = Command::new("kiln-no-such-program").read().unwrap_err().to_string();
        assert!(error.contains("is `kiln-no-such-program` installed"), "{error}");
    }

    #[test]
    fn a_busy_program_is_started_once_its_file_is_closed() {
        let mut busy = 2;
        let started = retry_while_busy(|| {
            let was_busy = busy > 0;
            busy -= i32::from(was_busy);
            if was_busy { Err(ErrorKind::ExecutableFileBusy.into()) } else { Ok(busy) }
        });
        assert_eq!(started.unwrap(), 0);
    }

    #[test]
    fn another_failure_to_start_is_not_retried() {
        let mut calls = 0;
        let started = retry_while_busy(|| {
            calls += 1;
            Err::<(), _>(io::Error::from(ErrorKind::NotFound))
        });
        assert_eq!((started.unwrap_err().kind(), calls), (ErrorKind::NotFound, 1));
    }

    #[test]
    fn only_listed_variables_reach_a_program() {
        let sh = shell().unwrap();
        let variables = Command::from(cmd!(sh, "env").env("OWN", "1")).read().unwrap();
        let mut names: Vec<&str> =
            variables.lines().filter_map(|line| Some(line.split_once('=')?.0)).collect();
        // The shell that starts `env` on some hosts adds these.
        names.retain(|name| !["_", "PWD", "SHLVL"].contains(name));
        let listed = |name: &&str| BASE.has(name) || ["LC_ALL", "TZ", "OWN"].contains(name);
        assert!(names.contains(&"OWN") && names.iter().all(listed), "{names:?}");
    }

    #[test]
    fn a_command_is_shown_with_its_arguments() {
        let sh = shell().unwrap();
        let two = ["b c", "d"];
        let error = Command::from(cmd!(sh, "false a {two...}")).read().unwrap_err().to_string();
        assert!(error.contains("`false a b c d` failed"), "{error}");
    }
}
