//! What a runtime works with: the services' programs, and what the boot found out.
//!
//! A struct and not constants, so that the tests can run the same loop with programs of their own
//! in a namespace (`init/tests/namespace.rs`).

use kiln_contract::setting::{CURE_REBOOTS, TRIAL};
use kiln_contract::{cgroup, path};

use super::cure;
use super::facts::Facts;
use super::up::WATCHDOG;
use crate::machine::parameters::Parameters;
use crate::storage::var::Var;

/// A node after its boot.
#[derive(Debug)]
pub struct Node {
    /// The final name.
    pub hostname: String,
    /// True if kubelet's configuration asks for a graceful shutdown.
    pub graceful: bool,
    /// The place of `/var`.
    pub var: Var,
    /// The kernel's command line.
    pub parameters: Parameters,
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
    /// The kernel's command line.
    pub parameters: Parameters,
    /// The number of reboots in 24 hours that a failing service may cause.
    pub cure_reboots: u8,
    /// True if kubelet's configuration asks for a graceful shutdown.
    pub graceful: bool,
    /// The place of `/var`, which decides how much of the logs is kept.
    pub var: Var,
    /// How much shorter than a node's the pauses before a restart are: 1 on a node.
    pub pace: u32,
    /// The socket at which containerd must answer probes; `None` for a service that has none.
    pub probe: Option<&'static str>,
}

impl Host {
    /// Returns the host of a real node.
    #[must_use]
    pub fn of_node(node: Node) -> Self {
        let Node { graceful, var, parameters, .. } = node;
        let cure_reboots = cure::allowed(var, parameters.number(&CURE_REBOOTS));
        let (trial, cures) = (parameters.is(&TRIAL, "1"), cure_reboots > 0);
        Self {
            services: [containerd(), kubelet()],
            facts: Facts { trial, cures, ..Facts::default() },
            parameters,
            cure_reboots,
            graceful,
            var,
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
