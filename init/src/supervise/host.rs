//! The parameters of the runtime: the services' programs and the results of the boot.
//!
//! They are a struct, so that tests can run the same loop with other programs in a namespace
//! (`init/tests/namespace`).

use kiln_contract::setting::{CURE_REBOOTS, TRIAL};
use kiln_contract::{cgroup, path};

use super::cure;
use super::facts::Facts;
use super::up::WATCHDOG;
use crate::kubelet;
use crate::kubelet::apply::addresses;
use crate::kubelet::plan::plan;
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
    /// The facts that decide kubelet's arguments and files.
    pub kubelet: kubelet::plan::Facts,
}

/// A service's command.
#[derive(Debug, Clone)]
pub struct Command {
    /// The program.
    pub program: String,
    /// The arguments without `argv[0]`.
    pub args: Vec<String>,
    /// The whole environment, `NAME=VALUE`.
    pub env: Vec<String>,
    /// The control group, or `None` for PID 1's own.
    pub group: Option<&'static str>,
    /// `oom_score_adj`, as text.
    pub oom_score: &'static std::ffi::CStr,
}

/// Everything that differs between a node and a test.
#[derive(Debug, Clone)]
pub struct Host {
    /// The commands, by [`super::service::Service::index`].
    pub services: [Command; 2],
    /// The facts that decide kubelet's arguments and files.
    pub kubelet: kubelet::plan::Facts,
    /// The supervisor's facts at the start.
    pub facts: Facts,
    /// The kernel's command line.
    pub parameters: Parameters,
    /// The number of reboots in 24 hours that a failing service may cause.
    pub cure_reboots: u8,
    /// True if kubelet's configuration asks for a graceful shutdown.
    pub graceful: bool,
    /// The place of `/var`, which decides how much of the logs is kept.
    pub var: Var,
    /// The divisor of the pauses before a restart: 1 on a node.
    pub pace: u32,
    /// The socket for probes of containerd, or `None` without probes.
    pub probe: Option<&'static str>,
}

impl Host {
    /// Returns the host of a real node.
    #[must_use]
    pub fn of_node(node: Node) -> Self {
        let Node { graceful, var, parameters, kubelet, .. } = node;
        let plan = plan(&kubelet, &addresses());
        let cure_reboots = cure::allowed(var, parameters.number(&CURE_REBOOTS));
        let (trial, cures) = (parameters.is(&TRIAL, "1"), cure_reboots > 0);
        Self {
            services: [containerd(proxy(&kubelet)), kubelet_command(plan.args, proxy(&kubelet))],
            kubelet,
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

/// Returns containerd's command.
#[must_use]
pub fn containerd(proxy: Vec<String>) -> Command {
    let mut env = environment();
    env.extend(proxy);
    Command {
        program: path::CONTAINERD.into(),
        args: ["--config", path::CONTAINERD_CONFIG].map(String::from).into(),
        env,
        group: Some(cgroup::CONTAINERD),
        oom_score: OOM_SCORE,
    }
}

/// Returns kubelet's command.
///
/// kubelet feeds its watchdog at half of `WATCHDOG_USEC`. `WATCHDOG_PID` is not set, because a pid
/// other than kubelet's own would silently disable the watchdog.
#[must_use]
pub fn kubelet_command(args: Vec<String>, proxy: Vec<String>) -> Command {
    let mut env = environment();
    env.extend(proxy);
    env.push(format!("DBUS_SYSTEM_BUS_ADDRESS=unix:path={}", path::LOGIN1_SOCKET));
    env.push(format!("WATCHDOG_USEC={}", WATCHDOG.as_micros()));
    Command {
        program: path::KUBELET.into(),
        args,
        env,
        group: Some(cgroup::KUBELET),
        oom_score: OOM_SCORE,
    }
}

/// Returns the variables of the proxy. The API server and the names of the cluster are reached
/// without it, because a proxy outside of the cluster's network seldom reaches them.
#[must_use]
pub fn proxy(kubelet: &kubelet::plan::Facts) -> Vec<String> {
    let cluster = kubelet.cluster.as_ref();
    let domain = cluster.map(|cluster| format!(".{}", cluster.domain));
    let server = cluster.map(|cluster| server_name(&cluster.server));
    kubelet.settings.proxy.environment(server.into_iter().chain(domain.as_deref()))
}

/// Returns the host of `https://api.example:6443/path`, an IPv6 address without its brackets.
fn server_name(server: &str) -> &str {
    let (_, rest) = server.split_once("://").unwrap_or(("", server));
    let host = rest.split('/').next().unwrap_or_default();
    match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => address,
        None => host.split(':').next().unwrap_or_default(),
    }
}

/// The value of upstream's unit files. When memory runs out, pods are killed first.
const OOM_SCORE: &std::ffi::CStr = c"-999";

/// The growth of a Go heap, in percent of the live heap, at which it is collected (Go's default is
/// 100).
///
/// kubelet, containerd and the shims of an idle node keep their heaps at the largest size they had.
/// A lower value leaves memory for pods and costs some CPU time while they start.
const GARBAGE_PERCENT: u32 = 75;

/// The environment of both services.
fn environment() -> Vec<String> {
    vec![
        format!("PATH={}", path::BIN),
        "HOME=/root".into(),
        format!("NOTIFY_SOCKET={}", path::NOTIFY_SOCKET),
        format!("GOGC={GARBAGE_PERCENT}"),
    ]
}

#[cfg(test)]
mod tests {
    use super::{kubelet, proxy, server_name};
    use crate::kubelet::cluster::Cluster;
    use crate::settings;

    #[test]
    fn the_api_server_is_reached_without_the_proxy() {
        let (settings, _) = settings::parse(b"[proxy]\nhttps = \"http://p:3128\"");
        let cluster = Some(Cluster::new("https://api.example:6443".into(), None));
        let facts = kubelet::plan::Facts { cluster, settings, ..kubelet::plan::Facts::default() };
        let variables = proxy(&facts);
        assert!(variables[0].starts_with("HTTPS_PROXY=http://p:3128"));
        assert!(variables[2].ends_with(",api.example"), "{variables:?}");
        assert!(proxy(&kubelet::plan::Facts::default()).is_empty());
    }

    #[test]
    fn the_name_of_a_server_has_no_scheme_port_and_path() {
        for (server, expected) in [
            ("https://api.example:6443", "api.example"),
            ("https://127.0.0.1", "127.0.0.1"),
            ("https://[2001:db8::1]:6443/k8s", "2001:db8::1"),
            ("api.example/k8s", "api.example"),
        ] {
            assert_eq!(server_name(server), expected);
        }
    }
}
