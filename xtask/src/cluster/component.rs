//! One program of the control plane: a child with its log.

use std::fs::{self, OpenOptions};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::process::{self, Command, Running};
use crate::qemu::{LOOK, get};

/// Lines of a program's log that an error repeats.
const LOG_LINES: usize = 15;

/// The longest time until a program is ready; on a busy host, etcd and the API server need a minute.
const READY_MAX: Duration = Duration::from_mins(5);

/// The longest time for one answer to the question whether a program is ready.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// The longest time for a program to stop; afterwards it is killed, which costs no data.
///
/// The API server alone takes longer, because it waits for requests that nodes have not ended.
const STOP_MAX: Duration = Duration::from_secs(5);

/// A running program.
#[derive(Debug)]
pub struct Component {
    /// Its name, for people.
    pub name: &'static str,
    running: Running,
    log: PathBuf,
}

impl Component {
    /// Starts the program with its output at the end of `NAME.log` in `logs`.
    ///
    /// It has a process group of its own, because ctrl-C must stop the nodes first.
    pub fn start(name: &'static str, command: Command, logs: &Path) -> Result<Self> {
        let log = logs.join(format!("{name}.log"));
        let file = OpenOptions::new().create(true).append(true).open(&log);
        let file = file.with_context(|| format!("cannot write {}", log.display()))?;
        let both = file.try_clone().context("cannot duplicate a descriptor")?;
        let running = command.own_group().output_to(file.into(), both.into()).spawn()?;
        Ok(Self { name, running, log })
    }

    /// Fails if the program has ended by itself.
    pub fn check(&mut self) -> Result<()> {
        let Some(status) = self.running.try_wait()? else { return Ok(()) };
        let (name, log) = (self.name, self.log.display());
        // A program that was killed did not write why.
        if status.signal().is_some() {
            bail!("{name} ended: {status}; its messages are in {log}");
        }
        let text = self.text();
        match reason(&text) {
            Some(reason) => bail!("{name} ended: {reason}; its other messages are in {log}"),
            None => bail!("{name} ended: {status}; the end of {log}:\n{}", tail(&text)),
        }
    }

    /// Waits until this URL answers with 200.
    pub fn wait_until_ready(&mut self, url: &str) -> Result<()> {
        self.wait_for_status(url, 200)
    }

    /// Waits until this URL answers with this status.
    pub fn wait_for_status(&mut self, url: &str, status: u16) -> Result<()> {
        let until = Instant::now() + READY_MAX;
        let mut last = String::new();
        loop {
            process::check_interrupt()?;
            match get(url, ANSWER_MAX) {
                Ok(page) if page.status == status => return Ok(()),
                Ok(page) => last = format!("status {}: {}", page.status, page.body.trim()),
                Err(error) => last = if last.is_empty() { format!("{error:#}") } else { last },
            }
            self.check()?;
            ensure!(
                Instant::now() < until,
                "{} is not ready after {} s ({last}); the end of {}:\n{}",
                self.name,
                READY_MAX.as_secs(),
                self.log.display(),
                tail(&self.text())
            );
            thread::sleep(LOOK);
        }
    }

    /// Stops the program, and kills it if it takes too long.
    pub fn stop(mut self) -> Result<()> {
        if self.running.try_wait()?.is_some() {
            return Ok(());
        }
        self.running.terminate()?;
        let until = Instant::now() + STOP_MAX;
        while self.running.try_wait()?.is_none() && Instant::now() < until {
            thread::sleep(LOOK);
        }
        // It is killed when it is dropped.
        Ok(())
    }

    fn text(&self) -> String {
        // The log is only a detail of an error message, which is correct without it.
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }
}

fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
}

/// Returns the last error in a log: a line of etcd in JSON, or of Kubernetes in klog's form. The stack of
/// a panic that may follow says nothing to users.
fn reason(log: &str) -> Option<String> {
    log.lines().rev().find_map(|line| in_json(line).or_else(|| in_klog(line)))
}

fn in_json(line: &str) -> Option<String> {
    let fields: Value = serde_json::from_str(line).ok()?;
    let text = |key: &str| fields[key].as_str();
    if !["error", "panic", "fatal"].contains(&text("level")?) {
        return None;
    }
    let cause = text("error").map(|error| format!(": {error}")).unwrap_or_default();
    Some(format!("{}{cause}", text("msg")?))
}

/// A line such as `E1130 15:09:58.567558   22704 run.go:72] "command failed" err="…"`.
fn in_klog(line: &str) -> Option<String> {
    let (head, message) = line.split_once("] ")?;
    let date = head.strip_prefix(['E', 'F'])?.get(..4)?;
    date.bytes().all(|byte| byte.is_ascii_digit()).then(|| message.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_is_the_last_error_and_not_a_stack() {
        let etcd = concat!(
            r#"{"level":"warn","msg":"failed to preallocate","error":"no space left on device"}"#,
            "\n",
            r#"{"level":"panic","msg":"failed to create WAL","error":"no space left on device"}"#,
            "\npanic: failed to create WAL\n\ngoroutine 1 [running]:\nmain.main()\n\tmain.go:31 +0x28\n",
        );
        let check = |log: &str, expected: Option<&str>| {
            assert_eq!(reason(log).as_deref(), expected, "{log}");
        };
        check(etcd, Some("failed to create WAL: no space left on device"));
        let api = "I1130 15:09:58.566637   22704 options.go:263] external host\n\
                   E1130 15:09:58.567558   22704 run.go:72] \"command failed\" err=\"bad port\"\n";
        check(api, Some("\"command failed\" err=\"bad port\""));
        check("I1130 15:09:58.566637   22704 options.go:263] external host\n", None);
        check("Error: unknown flag: --x\n", None);
        check("", None);
    }
}
