//! The two services: what they are called with, and what stays open over their restarts.

use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};

use anyhow::{Context, Result};
use kiln_contract::{cgroup as groups, path};

use crate::cgroup;
use crate::spawn::{self, Child, Program};

/// A service with what it needs to be started again and again.
pub(super) struct Unit {
    program: Program,
    group: OwnedFd,
    /// The log's pipe. It stays open over restarts, so that no output is lost and nothing leaks.
    output: OwnedFd,
    pub(super) child: Option<Child>,
    attempt: u32,
}

impl Unit {
    /// Starts its process and returns how often it was started, this time included.
    pub(super) fn start(&mut self) -> Result<u32> {
        self.attempt = self.attempt.saturating_add(1);
        let child = spawn::start(&self.program, self.group.as_fd(), self.output.as_fd())?;
        self.child = Some(child);
        Ok(self.attempt)
    }
}

/// Both services, by [`super::Service::index`], with the pipes that they write to.
pub(super) fn all(outputs: [OwnedFd; 2]) -> Result<[Unit; 2]> {
    let containerd = &["--config", path::CONTAINERD_CONFIG];
    let kubelet = &["--config", path::KUBELET_CONFIG];
    let bus = format!("DBUS_SYSTEM_BUS_ADDRESS=unix:path={}", path::LOGIN1_SOCKET);
    let [first, second] = outputs;
    Ok([
        unit(path::CONTAINERD, containerd, groups::CONTAINERD, first, None)?,
        unit(path::KUBELET, kubelet, groups::KUBELET, second, Some(&bus))?,
    ])
}

fn unit(
    program: &str,
    args: &[&str],
    group: &str,
    output: OwnedFd,
    env: Option<&String>,
) -> Result<Unit> {
    let program = Program {
        path: CString::new(program)?,
        args: strings(std::iter::once(program).chain(args.iter().copied()))?,
        env: strings(environment().iter().chain(env).map(String::as_str))?,
        oom_score: c"-999",
    };
    Ok(Unit { program, group: cgroup::open(group)?, output, child: None, attempt: 0 })
}

/// How much a Go heap may grow, in percent of what is alive, before it is collected (Go's default is 100).
///
/// An idle node keeps kubelet's, containerd's and the shims' heaps at their largest for ever.
/// Less than their default is memory for pods, at the price of some processor time while they start.
const GARBAGE_PERCENT: u32 = 75;

/// The whole environment of a service.
fn environment() -> [String; 4] {
    [
        format!("PATH={}", path::BIN),
        "HOME=/root".into(),
        format!("NOTIFY_SOCKET={}", path::NOTIFY_SOCKET),
        format!("GOGC={GARBAGE_PERCENT}"),
    ]
}

fn strings<'a>(texts: impl Iterator<Item = &'a str>) -> Result<Vec<CString>> {
    texts.map(|text| CString::new(text).context("a string with a NUL")).collect()
}
