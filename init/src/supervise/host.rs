//! What a runtime works with: the services' programs, and what the boot found out.
//!
//! A struct and not constants, so that the tests can run the same loop with programs of their own
//! in a namespace (`init/tests/namespace.rs`).

use std::time::Duration;

use kiln_contract::{cgroup, path};

use super::facts::Facts;
use super::up::WATCHDOG;
use crate::storage::var::Var;

/// A node that knows who it is.
#[derive(Debug)]
pub struct Node {
    /// Final name.
    pub hostname: String,
    /// Services' output goes to the console too.
    pub log_to_console: bool,
    /// Longest time that a shutdown waits for kubelet.
    pub shutdown_max: Duration,
    /// kubelet's configuration asks for a graceful shutdown.
    pub graceful: bool,
    /// Where `/var` is.
    pub var: Var,
    /// This boot is on trial.
    pub trial: bool,
    /// Reboots as a cure that are allowed in 24 hours.
    pub cure_reboots: u8,
}

/// How to start a service.
#[derive(Debug, Clone)]
pub struct Command {
    /// The program, and its arguments without `argv[0]`.
    pub program: String,
    /// Its arguments, `argv[0]` not included.
    pub args: Vec<String>,
    /// Its whole environment, `NAME=VALUE`.
    pub env: Vec<String>,
    /// Its control group; `None` for PID 1's own.
    pub group: Option<&'static str>,
    /// `oom_score_adj`, as text.
    pub oom_score: &'static std::ffi::CStr,
}

/// Everything that differs between a node and a test.
#[derive(Debug, Clone)]
pub struct Host {
    /// By [`super::service::Service::index`].
    pub services: [Command; 2],
    /// What the supervisor knows at the start.
    pub facts: Facts,
    /// Reboots as a cure that are allowed in 24 hours.
    pub cure_reboots: u8,
    /// Longest time that a shutdown waits for kubelet.
    pub shutdown_max: Duration,
    /// kubelet's configuration asks for a graceful shutdown.
    pub graceful: bool,
    /// Where `/var` is: it decides how much of the logs is kept.
    pub var: Var,
    /// Services' output goes to the console too.
    pub log_to_console: bool,
    /// How much shorter than a node's the pauses before a restart are: 1 on a node.
    pub pace: u32,
    /// The socket at which containerd must answer probes; `None` for a service that has none.
    pub probe: Option<&'static str>,
}

impl Host {
    /// The real thing.
    #[must_use]
    pub fn of_node(node: &Node) -> Self {
        let cures = node.cure_reboots > 0;
        Self {
            services: [containerd(), kubelet()],
            facts: Facts { trial: node.trial, cures, ..Facts::default() },
            cure_reboots: node.cure_reboots,
            shutdown_max: node.shutdown_max,
            graceful: node.graceful,
            var: node.var,
            log_to_console: node.log_to_console,
            pace: 1,
            probe: Some(path::CONTAINERD_SOCKET),
        }
    }
}

fn containerd() -> Command {
    Command {
        program: path::CONTAINERD.into(),
        args: ["--config", path::CONTAINERD_CONFIG].map(String::from).into(),
        env: environment(),
        group: Some(cgroup::CONTAINERD),
        oom_score: OOM_SCORE,
    }
}

/// kubelet feeds its watchdog at half of `WATCHDOG_USEC`. There is no `WATCHDOG_PID`: another one
/// than its own would switch the watchdog off without a word.
fn kubelet() -> Command {
    let mut env = environment();
    env.push(format!("DBUS_SYSTEM_BUS_ADDRESS=unix:path={}", path::LOGIN1_SOCKET));
    env.push(format!("WATCHDOG_USEC={}", WATCHDOG.as_micros()));
    Command {
        program: path::KUBELET.into(),
        args: ["--config", path::KUBELET_CONFIG].map(String::from).into(),
        env,
        group: Some(cgroup::KUBELET),
        oom_score: OOM_SCORE,
    }
}

/// What upstream's unit files have; pods go first when memory is out.
const OOM_SCORE: &std::ffi::CStr = c"-999";

/// How much a Go heap may grow, in percent of what is alive, before it is collected (Go's default is 100).
///
/// An idle node keeps kubelet's, containerd's and the shims' heaps at their largest for ever.
/// Less than their default is memory for pods, at the price of some processor time while they start.
const GARBAGE_PERCENT: u32 = 75;

/// What both services' environment has.
fn environment() -> Vec<String> {
    vec![
        format!("PATH={}", path::BIN),
        "HOME=/root".into(),
        format!("NOTIFY_SOCKET={}", path::NOTIFY_SOCKET),
        format!("GOGC={GARBAGE_PERCENT}"),
    ]
}
