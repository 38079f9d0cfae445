//! A Kubernetes cluster on this host, for `cargo xtask cluster` and for scenarios: a control plane
//! of child processes, and a network for the machines that join it.
//!
//! It is a tool to try and to test nodes with, and no part of Kiln: it keeps no backup, has one
//! replica of everything, and listens on the host's loopback address only. `docs/cluster.md`
//! describes it for users.

mod add_ons;
mod component;
mod control_plane;
mod egress;
pub mod git;
mod kubectl;
mod kustomize;
pub mod node;
mod objects;
pub mod pages;
pub mod pki;
mod registry;
mod session;
mod state;
pub mod template;
mod watch;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use serde_json::Value;

pub use add_ons::{AddOns, install as install_network};
pub use control_plane::{ApiServer, PORT, Programs, check_free};
pub use node::{Channel, Credentials, Handover};
pub use objects::secret;
pub use session::{Demonstration, Until, run as session};
pub use state::State;
pub use watch::{Change, Changes};

use kubectl::Answer;

use crate::credential::Join;
use crate::credential::token::Token;
use crate::host::HostTool;
use crate::process::Command;
use crate::progress::Progress;
use crate::qemu::segment::{self, Segment};
use crate::qemu::{Scratch, Span};
use control_plane::ControlPlane;
use egress::Egress;
use registry::Registry;

/// The folder for sockets is made in the host's folder for temporary files, because the path of a
/// socket must be short.
const SOCKETS: &str = "kiln-cluster-";

/// The programs that a cluster runs.
#[derive(Debug, Clone)]
pub struct Tools {
    /// `qemu-system-x86_64`, which holds the network.
    pub qemu: HostTool,
    /// The control plane.
    pub programs: Programs,
    /// The cluster network.
    pub add_ons: AddOns,
}

/// A choice of the user or of a scenario.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// The port of the API server on the host.
    pub port: u16,
    /// The number of network cards of all nodes together.
    pub cards: u8,
}

/// A running control plane, and the network of its nodes.
#[derive(Debug)]
pub struct Cluster {
    /// The folder of the cluster.
    pub state: State,
    /// The network that the nodes share.
    pub segment: Arc<Segment>,
    control_plane: ControlPlane,
    kubectl: PathBuf,
    kubeconfig: PathBuf,
    registry: Option<Registry>,
    _egress: Egress,
    // Deleted last: the sockets are in it.
    _sockets: Scratch,
}

impl Cluster {
    /// Starts the network and the control plane, and makes the objects with which nodes can join.
    pub fn start(
        tools: &Tools,
        state: State,
        settings: Settings,
        progress: &Progress,
    ) -> Result<Self> {
        let sockets = Scratch::new(&std::env::temp_dir(), SOCKETS)?;
        let segment = Arc::new(Segment::start(&tools.qemu, sockets.path(), settings.cards)?);
        let egress = sockets.path().join("egress");
        let proxy = Egress::start(&egress, Arc::clone(&segment))?;
        let control_plane =
            ControlPlane::start(&tools.programs, &state, settings.port, &egress, progress)?;
        let kubeconfig = state.kubeconfig("kubeconfig", pki::ADMIN, &control_plane.url())?;
        let cluster = Self {
            state,
            segment,
            control_plane,
            kubectl: tools.programs.kubernetes.join("kubectl"),
            kubeconfig,
            registry: None,
            _egress: proxy,
            _sockets: sockets,
        };
        cluster.make_objects()?;
        Ok(cluster)
    }

    fn make_objects(&self) -> Result<()> {
        let ca = self.state.pki.text(pki::CA)?;
        let objects = objects::all(&self.state.token, &self.url_for_nodes(), &ca)?;
        self.apply(&objects).context("cannot prepare the cluster for nodes that join")
    }

    /// The credentials with which a node pulls images from the registry; none without one.
    pub fn registry_credentials(&self) -> Result<Credentials> {
        let registry = self.registry.as_ref();
        registry.map_or_else(|| Ok(Credentials::new()), |it| it.credentials(&self.state))
    }

    /// The registry's address for nodes.
    pub fn registry_url(&self) -> Result<String> {
        let registry = self.registry.as_ref().context("the cluster has no registry")?;
        Ok(registry.url_for_nodes())
    }

    /// Starts a registry that asks for a password, next to the other one.
    pub fn start_locked_registry(&mut self) -> Result<()> {
        let registry = self.registry.as_mut().context("the cluster has no registry")?;
        registry.start_locked(&self.state)
    }

    /// The address of the registry that asks for a password.
    pub fn locked_registry_url(&self) -> Result<String> {
        let url = self.registry.as_ref().and_then(Registry::locked_url_for_nodes);
        url.context("the cluster has no registry with a password")
    }

    /// The path of kubectl.
    pub fn kubectl_path(&self) -> &Path {
        &self.kubectl
    }

    /// The path of the kubeconfig of the cluster's administrator.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// The API server's address for nodes.
    pub fn url_for_nodes(&self) -> String {
        self.control_plane.url_for_nodes()
    }

    /// The API server's port on this host, and on the address that nodes see.
    pub fn port(&self) -> u16 {
        self.control_plane.port()
    }

    /// The parts of the control plane's start.
    pub fn spans(&self) -> &[Span] {
        &self.control_plane.spans
    }

    /// Returns a command of kubectl as the cluster's administrator.
    pub fn kubectl(&self) -> Command {
        Command::new(&self.kubectl)
            .arg("--kubeconfig")
            .arg(&self.kubeconfig)
            .arg("--cache-dir")
            .arg(self.state.path("cache"))
    }

    /// Creates or changes objects.
    pub fn apply(&self, objects: &Value) -> Result<()> {
        let path = self.state.path("objects.json");
        state::write_secret(&path, &objects.to_string())?;
        self.apply_file(&path)
    }

    /// Creates or changes the objects of a file.
    pub fn apply_file(&self, path: &Path) -> Result<()> {
        self.kubectl().args(["apply", "--server-side", "-f"]).arg(path).output().map(drop)
    }

    /// Deletes the Nodes after the first `nodes`, which an earlier run has left: the cluster network
    /// would wait for them.
    pub fn forget_after(&self, nodes: u8) -> Result<()> {
        let names: Vec<String> = (nodes + 1..=segment::CARDS_MAX).map(node::name).collect();
        if names.is_empty() {
            return Ok(());
        }
        let delete = ["delete", "nodes", "--ignore-not-found", "--wait=false"];
        self.kubectl().args(delete).args(names).output().map(drop)
    }

    /// Runs kubectl with a deadline.
    pub fn ask(&self, arguments: &[String]) -> Result<Answer> {
        kubectl::ask(self.kubectl().args(arguments), &self.state.path("logs"))
    }

    /// Returns the credential `kiln.join` for this token.
    pub fn join(&self, token: &Token) -> Result<String> {
        let join = Join {
            server: self.url_for_nodes().parse()?,
            token: token.clone(),
            ca: self.state.pki.text(pki::CA)?,
            cluster_dns: Vec::new(),
            cluster_domain: None,
        };
        join.text()
    }

    /// Fails if a program of the control plane or the network has ended by itself.
    pub fn check(&mut self) -> Result<()> {
        self.segment.check()?;
        if let Some(registry) = &mut self.registry {
            registry.check()?;
        }
        self.control_plane.check()
    }

    /// Stops the API server, as if its machine were away.
    pub fn stop_api(&mut self) -> Result<()> {
        self.control_plane.stop_api()
    }

    /// Starts the API server again.
    pub fn start_api(&mut self) -> Result<()> {
        self.control_plane.start_api(&self.state)
    }

    /// Stops the control plane and returns its folder.
    pub fn stop(self) -> Result<State> {
        self.registry.map_or(Ok(()), Registry::stop)?;
        self.control_plane.stop()?;
        Ok(self.state)
    }
}
