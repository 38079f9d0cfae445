//! The programs of the control plane, as children of the builder.
//!
//! They listen on the host's loopback address only. Nodes reach that address too, so every port
//! wants a certificate. etcd does not sync its files, because a cluster to try is not worth waiting
//! for a disk.

use std::ffi::OsString;
use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::json;

use super::component::Component;
use super::pki;
use super::state::State;
use crate::port;
use crate::process::Command;
use crate::progress::Progress;
use crate::qemu::{Span, segment};

/// The API server's port, unless another one is chosen; kubeadm's.
pub const PORT: u16 = 6443;

/// The range of services. [`pki::SERVICE`] is its first address.
const SERVICES: &str = "10.96.0.0/16";

/// The range of pods, of which each node gets a /24.
const PODS: &str = "10.244.0.0/16";

/// The programs.
#[derive(Debug, Clone)]
pub struct Programs {
    /// etcd.
    pub etcd: PathBuf,
    /// The folder of Kubernetes' programs.
    pub kubernetes: PathBuf,
}

/// The ports on the host's loopback address.
#[derive(Debug, Clone, Copy)]
struct Ports {
    api: u16,
    etcd: u16,
    peers: u16,
    controller_manager: u16,
    scheduler: u16,
}

/// A running API server with its store, and nothing else: enough for programs that only talk to the
/// API.
#[derive(Debug)]
pub struct ApiServer {
    etcd: Component,
    api: Component,
    port: u16,
}

impl ApiServer {
    /// Starts both programs on free ports and waits until they are ready. The API server writes each
    /// request into the file [`State::audit`].
    pub fn start(programs: &Programs, state: &State) -> Result<Self> {
        let ports = Ports::choose(port::free()?)?;
        let launch = Launch { programs, state, ports, egress: None };
        let etcd = launch.etcd()?;
        let api = launch.api()?;
        Ok(Self { etcd, api, port: ports.api })
    }

    /// The API server's address for programs on the host.
    pub fn url(&self) -> String {
        url(self.port)
    }

    /// Stops both programs.
    pub fn stop(self) -> Result<()> {
        self.api.stop()?;
        self.etcd.stop()
    }
}

/// A running control plane.
#[derive(Debug)]
pub struct ControlPlane {
    programs: Programs,
    ports: Ports,
    egress: PathBuf,
    // In the order of their start; stopped in the opposite order.
    etcd: Component,
    api: Option<Component>,
    controller_manager: Component,
    scheduler: Component,
    /// The parts of the start, for a timeline.
    pub spans: Vec<Span>,
}

impl ControlPlane {
    /// Starts all programs and waits until each is ready. `egress` is the socket of the proxy to the
    /// nodes.
    pub fn start(
        programs: &Programs,
        state: &State,
        port: u16,
        egress: &Path,
        progress: &Progress,
    ) -> Result<Self> {
        let task = progress.task("control plane", Some(4));
        let start = Instant::now();
        let ports = Ports::choose(port)?;
        let launch = Launch { programs, state, ports, egress: Some(egress) };
        let mut clock = Clock { start, spans: Vec::new() };
        task.note("etcd");
        let etcd = clock.start("etcd", || launch.etcd())?;
        task.advance(1);
        task.note("kube-apiserver");
        let api = clock.start("kube-apiserver", || launch.api())?;
        task.advance(1);
        task.note("kube-controller-manager and kube-scheduler");
        // They start at the same time, because each waits for the API server only.
        let (mut controller_manager, mut scheduler) =
            (launch.controller_manager()?, launch.scheduler()?);
        let from = start.elapsed();
        controller_manager.wait_until_ready(&launch.controller_manager_url())?;
        clock.add("kube-controller-manager", from);
        task.advance(1);
        scheduler.wait_until_ready(&launch.scheduler_url())?;
        clock.add("kube-scheduler", from);
        task.done();
        Ok(Self {
            programs: programs.clone(),
            ports,
            egress: egress.to_owned(),
            etcd,
            api: Some(api),
            controller_manager,
            scheduler,
            spans: clock.spans,
        })
    }

    /// The API server's port.
    pub fn port(&self) -> u16 {
        self.ports.api
    }

    /// The API server's address for programs on the host.
    pub fn url(&self) -> String {
        url(self.ports.api)
    }

    /// The API server's address for nodes.
    pub fn url_for_nodes(&self) -> String {
        format!("https://{}:{}", segment::HOST, self.ports.api)
    }

    /// Fails if a program has ended by itself.
    pub fn check(&mut self) -> Result<()> {
        self.etcd.check()?;
        if let Some(api) = &mut self.api {
            api.check()?;
        }
        self.controller_manager.check()?;
        self.scheduler.check()
    }

    /// Stops the API server, as if its machine were away.
    pub fn stop_api(&mut self) -> Result<()> {
        self.api.take().map_or(Ok(()), Component::stop)
    }

    /// Starts the API server again, and waits until it is ready.
    pub fn start_api(&mut self, state: &State) -> Result<()> {
        let Self { programs, ports, egress, .. } = &*self;
        let launch = Launch { programs, state, ports: *ports, egress: Some(egress) };
        self.api = Some(launch.api()?);
        Ok(())
    }

    /// Stops all programs, the store last, so that it keeps what the others wrote.
    pub fn stop(self) -> Result<()> {
        self.scheduler.stop()?;
        self.controller_manager.stop()?;
        self.api.map_or(Ok(()), Component::stop)?;
        self.etcd.stop()
    }
}

/// Records the duration of each start.
struct Clock {
    start: Instant,
    spans: Vec<Span>,
}

impl Clock {
    fn start(&mut self, name: &str, run: impl FnOnce() -> Result<Component>) -> Result<Component> {
        let from = self.start.elapsed();
        let component = run()?;
        self.add(name, from);
        Ok(component)
    }

    fn add(&mut self, name: &str, from: Duration) {
        let to = self.start.elapsed();
        self.spans.push(Span { name: format!("{name} ready"), from, to });
    }
}

impl Ports {
    fn choose(api: u16) -> Result<Self> {
        check_free(api)?;
        Ok(Self {
            api,
            etcd: port::free()?,
            peers: port::free()?,
            controller_manager: port::free()?,
            scheduler: port::free()?,
        })
    }
}

/// Fails if the port of the API server is in use.
pub fn check_free(port: u16) -> Result<()> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).map(drop).with_context(|| {
        format!(
            "cannot listen on 127.0.0.1:{port}, the API server's port; stop the program that uses it, \
             such as another cluster, or choose another port with --port {}",
            port.checked_add(10_000).unwrap_or_else(|| port - 10_000)
        )
    })
}

fn url(port: u16) -> String {
    format!("https://127.0.0.1:{port}")
}

/// The commands of all programs.
struct Launch<'a> {
    programs: &'a Programs,
    state: &'a State,
    ports: Ports,
    /// The proxy to the nodes; without one there are no nodes, and requests are recorded instead.
    egress: Option<&'a Path>,
}

impl Launch<'_> {
    fn etcd(&self) -> Result<Component> {
        let (pki, clients, peers) = (&self.state.pki, url(self.ports.etcd), url(self.ports.peers));
        let mut flags = Flags::default();
        flags.set("name", "kiln");
        flags.set("data-dir", self.state.path("etcd"));
        flags.set("unsafe-no-fsync", "true");
        flags.set("listen-client-urls", &clients);
        flags.set("advertise-client-urls", &clients);
        flags.set("listen-peer-urls", &peers);
        flags.set("initial-advertise-peer-urls", &peers);
        flags.set("initial-cluster", format!("kiln={peers}"));
        for prefix in ["", "peer-"] {
            flags.set(&format!("{prefix}cert-file"), pki.certificate(pki::ETCD));
            flags.set(&format!("{prefix}key-file"), pki.key(pki::ETCD));
            flags.set(&format!("{prefix}trusted-ca-file"), pki.certificate(pki::ETCD_CA));
            flags.set(&format!("{prefix}client-cert-auth"), "true");
        }
        // Without a certificate only this port answers, and only about its health.
        let health = port::free()?;
        flags.set("listen-metrics-urls", format!("http://127.0.0.1:{health}"));
        let command = Command::new(&self.programs.etcd).args(flags.0);
        let mut etcd = Component::start("etcd", command, &self.state.logs())?;
        etcd.wait_until_ready(&format!("http://127.0.0.1:{health}/health"))?;
        Ok(etcd)
    }

    fn api(&self) -> Result<Component> {
        let pki = &self.state.pki;
        let mut flags = Flags::default();
        flags.set("advertise-address", segment::HOST.to_string());
        flags.set("bind-address", "127.0.0.1");
        flags.set("secure-port", self.ports.api.to_string());
        flags.set("etcd-servers", url(self.ports.etcd));
        flags.set("etcd-cafile", pki.certificate(pki::ETCD_CA));
        flags.set("etcd-certfile", pki.certificate(pki::ETCD_CLIENT));
        flags.set("etcd-keyfile", pki.key(pki::ETCD_CLIENT));
        flags.set("client-ca-file", pki.certificate(pki::CA));
        flags.set("tls-cert-file", pki.certificate(pki::API));
        flags.set("tls-private-key-file", pki.key(pki::API));
        flags.set("kubelet-certificate-authority", pki.certificate(pki::CA));
        flags.set("kubelet-client-certificate", pki.certificate(pki::KUBELET_CLIENT));
        flags.set("kubelet-client-key", pki.key(pki::KUBELET_CLIENT));
        flags.set("kubelet-preferred-address-types", "InternalIP");
        if let Some(egress) = self.egress {
            flags.set("egress-selector-config-file", self.egress_configuration(egress)?);
        } else {
            flags.set("audit-policy-file", self.audit_policy()?);
            flags.set("audit-log-path", self.state.audit());
        }
        flags.set("authorization-mode", "Node,RBAC");
        flags.set("enable-admission-plugins", "NodeRestriction");
        flags.set("enable-bootstrap-token-auth", "true");
        flags.set("allow-privileged", "true");
        flags.set("service-cluster-ip-range", SERVICES);
        flags.set("service-account-issuer", format!("https://{}", pki::SERVICE_NAME));
        flags.set("service-account-key-file", pki.service_account_key());
        flags.set("service-account-signing-key-file", pki.key(pki::SERVICE_ACCOUNTS));
        flags.set("requestheader-client-ca-file", pki.certificate(pki::FRONT_PROXY_CA));
        flags.set("requestheader-allowed-names", "front-proxy-client");
        flags.set("requestheader-username-headers", "X-Remote-User");
        flags.set("requestheader-group-headers", "X-Remote-Group");
        flags.set("requestheader-extra-headers-prefix", "X-Remote-Extra-");
        flags.set("proxy-client-cert-file", pki.certificate(pki::FRONT_PROXY));
        flags.set("proxy-client-key-file", pki.key(pki::FRONT_PROXY));
        let mut api = self.start("kube-apiserver", flags)?;
        api.wait_until_ready(&format!("{}/readyz", url(self.ports.api)))?;
        Ok(api)
    }

    /// Connections to nodes go through the proxy; those to the store and to the host's own network do
    /// not.
    fn egress_configuration(&self, egress: &Path) -> Result<PathBuf> {
        let path = self.state.path("egress.json");
        let config = json!({
            "apiVersion": "apiserver.k8s.io/v1beta1",
            "kind": "EgressSelectorConfiguration",
            "egressSelections": [{ "name": "cluster", "connection": {
                "proxyProtocol": "HTTPConnect",
                "transport": { "uds": { "udsName": egress } },
            }}],
        });
        fs::write(&path, config.to_string())
            .with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }

    /// Every request is recorded once, with its user, verb and object.
    fn audit_policy(&self) -> Result<PathBuf> {
        let path = self.state.path("audit.json");
        let policy = json!({
            "apiVersion": "audit.k8s.io/v1",
            "kind": "Policy",
            "omitStages": ["RequestReceived"],
            "rules": [{ "level": "Metadata" }],
        });
        fs::write(&path, policy.to_string())
            .with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }

    fn controller_manager(&self) -> Result<Component> {
        let (pki, state) = (&self.state.pki, self.state);
        let mut flags = Flags::default();
        let kubeconfig = state.kubeconfig(
            "controller-manager.kubeconfig",
            pki::CONTROLLER_MANAGER,
            &url(self.ports.api),
        )?;
        flags.set("kubeconfig", kubeconfig);
        flags.set("bind-address", "127.0.0.1");
        flags.set("secure-port", self.ports.controller_manager.to_string());
        flags.set("leader-elect", "false");
        // The last two are off by default; they sign `cluster-info` and delete expired tokens.
        flags.set("controllers", "*,bootstrapsigner,tokencleaner");
        flags.set("use-service-account-credentials", "true");
        flags.set("service-account-private-key-file", pki.key(pki::SERVICE_ACCOUNTS));
        flags.set("root-ca-file", pki.certificate(pki::CA));
        flags.set("cluster-signing-cert-file", pki.certificate(pki::CA));
        flags.set("cluster-signing-key-file", pki.key(pki::CA));
        flags.set("allocate-node-cidrs", "true");
        flags.set("cluster-cidr", PODS);
        flags.set("service-cluster-ip-range", SERVICES);
        self.start("kube-controller-manager", flags)
    }

    fn controller_manager_url(&self) -> String {
        format!("{}/healthz", url(self.ports.controller_manager))
    }

    fn scheduler(&self) -> Result<Component> {
        let mut flags = Flags::default();
        let kubeconfig =
            self.state.kubeconfig("scheduler.kubeconfig", pki::SCHEDULER, &url(self.ports.api))?;
        flags.set("kubeconfig", kubeconfig);
        flags.set("bind-address", "127.0.0.1");
        flags.set("secure-port", self.ports.scheduler.to_string());
        flags.set("leader-elect", "false");
        self.start("kube-scheduler", flags)
    }

    fn scheduler_url(&self) -> String {
        format!("{}/healthz", url(self.ports.scheduler))
    }

    fn start(&self, name: &'static str, flags: Flags) -> Result<Component> {
        let command = Command::new(self.programs.kubernetes.join(name)).args(flags.0);
        Component::start(name, command, &self.state.logs())
    }
}

/// Arguments of the form `--NAME=VALUE`.
#[derive(Debug, Default)]
struct Flags(Vec<OsString>);

impl Flags {
    fn set(&mut self, name: &str, value: impl Into<OsString>) {
        let mut flag = OsString::from(format!("--{name}="));
        flag.push(value.into());
        self.0.push(flag);
    }
}
