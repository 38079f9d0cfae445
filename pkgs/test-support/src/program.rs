//! A server as a child process: its log, its signals, its descriptors.

use std::io::{BufRead as _, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process};

use crate::DEADLINE;

/// A running server, killed when it is dropped.
#[derive(Debug)]
pub struct Program {
    /// The process.
    pub child: Child,
    log: Receiver<String>,
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Program {
    /// Starts a command. A thread reads the log, so that the command never waits for the test.
    pub fn start(mut command: Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let log = lines(child.stderr.take().unwrap());
        Self { child, log }
    }

    /// Returns the next line of the log.
    #[track_caller]
    pub fn next_log(&self) -> String {
        self.log.recv_timeout(DEADLINE).expect("the log ended, or nothing new came")
    }

    /// Returns the logged lines that have not been read yet, without waiting.
    pub fn logged(&self) -> impl Iterator<Item = String> {
        self.log.try_iter()
    }

    /// Reads the log up to a line with this text, and returns that line. Other lines do not extend
    /// the deadline.
    #[track_caller]
    pub fn until_log(&self, text: &str) -> String {
        let end = Instant::now() + DEADLINE;
        loop {
            let line = self.log.recv_timeout(end.saturating_duration_since(Instant::now()));
            let line = line.unwrap_or_else(|_| panic!("no line with {text:?}"));
            if line.contains(text) {
                return line;
            }
        }
    }

    /// Returns the lines of standard output as they arrive. Can be called only once.
    pub fn output(&mut self) -> Receiver<String> {
        lines(self.child.stdout.take().unwrap())
    }

    /// Returns the process id.
    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    /// Waits for the program to exit, and returns the exit code.
    pub fn wait(&mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }

    /// Returns the targets of the open descriptors.
    pub fn descriptors(&self) -> Vec<String> {
        let folder = format!("/proc/{}/fd", self.child.id());
        let targets = std::fs::read_dir(folder).unwrap().filter_map(|entry| {
            let target = std::fs::read_link(entry.ok()?.path()).ok()?;
            Some(target.to_string_lossy().into_owned())
        });
        targets.collect()
    }

    /// Returns a figure of `/proc/PID/status` in KiB, such as `RssAnon:`.
    pub fn memory(&self, name: &str) -> u64 {
        let path = format!("/proc/{}/status", self.child.id());
        let text = std::fs::read_to_string(path).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }
}

/// Reads lines in a thread, which exits when the pipe is closed or the receiver is dropped.
fn lines(pipe: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, lines) = channel();
    std::thread::spawn(move || {
        let all = BufReader::new(pipe).lines().map_while(Result::ok);
        all.map(|line| sender.send(line)).take_while(Result::is_ok).count()
    });
    lines
}

/// Returns a figure from a text in Prometheus' format; `name` includes the labels.
pub fn figure(metrics: &str, name: &str) -> u64 {
    let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {name} in {metrics}")).parse().unwrap()
}
