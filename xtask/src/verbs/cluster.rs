//! `cargo xtask cluster`

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use kiln_host::println;

use super::target::Target;
use crate::build::machine;
use crate::cluster::{
    self, Channel, Cluster as Running, Credentials, Demonstration, Settings, State, Until, node,
};
use crate::process;
use crate::qemu::{Machine, Network, segment, table};

#[derive(Debug, Args)]
pub(super) struct Cluster {
    #[command(flatten)]
    target: Target,
    /// The number of nodes
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=i64::from(segment::CARDS_MAX)))]
    nodes: u8,
    /// The memory of each node in MiB
    #[arg(long, value_name = "MIB", default_value_t = machine::MEMORY, value_parser = machine::memory())]
    memory: u32,
    /// Keep the cluster's state, so that the next run continues with it
    #[arg(long)]
    keep: bool,
    /// The folder for the cluster's state; target/kiln/cluster by default
    #[arg(long, value_name = "FOLDER")]
    state: Option<PathBuf>,
    /// The port of the API server on this host
    #[arg(long, default_value_t = cluster::PORT, value_parser = clap::value_parser!(u16).range(1..))]
    port: u16,
    /// Stop all once every node is Ready; exit status 0 means success
    #[arg(long)]
    check: bool,
    /// Install something in the cluster, and show it
    #[arg(long, value_name = "WHAT")]
    with: Option<With>,
}

/// The things that can be installed in the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum With {
    /// The pages service: a git server, three sites, and a push
    Pages,
}

impl Cluster {
    pub(super) fn run(self) -> Result<()> {
        let builder = self.target.open()?;
        let folder = match &self.state {
            Some(folder) => std::path::absolute(folder)?,
            None => builder.inputs.workspace.join("target/kiln/cluster"),
        };
        // Checked before minutes of building, not after.
        cluster::check_free(self.port)?;
        let state = State::open(&folder)?;
        let built = builder.image()?;
        let machine = machine::of(&builder, &built, Vec::new(), self.memory)?;
        let tools = machine::cluster_tools(&builder)?;
        let pages = self.with.map(|With::Pages| machine::pages(&builder)).transpose()?;
        if self.keep {
            state.keep()?;
        }
        let settings = Settings { port: self.port, cards: self.nodes };
        let mut cluster = Running::start(&tools, state, settings, &builder.progress)?;
        println!("\n{}", table("control plane", cluster.spans()));
        cluster.forget_after(self.nodes)?;
        cluster::install_network(&tools.add_ons, &mut cluster, &builder.progress)?;
        let install = |pages| cluster::pages::install(pages, &cluster, &builder.progress);
        let mut installed = pages.as_ref().map(install).transpose()?;
        let machines = self.machines(&cluster, &machine)?;
        process::check_interrupt()?;
        let until = if self.check { Until::Ready } else { Until::Interrupt };
        let shown = pages.as_ref().zip(installed.as_mut());
        let shown = shown.map(|(pages, installed)| Demonstration { pages, installed });
        let result = cluster::session(&mut cluster, &machines, until, shown);
        installed.map_or(Ok(()), cluster::pages::Installed::stop)?;
        let state = cluster.stop()?;
        result?;
        if self.keep { Ok(()) } else { state.delete() }
    }

    fn machines(&self, cluster: &Running, machine: &Machine) -> Result<Vec<Machine>> {
        (1..=self.nodes).map(|number| machine_of(cluster, machine, number)).collect()
    }
}

/// The machine of a node, with its identity and its credentials.
fn machine_of(cluster: &Running, machine: &Machine, number: u8) -> Result<Machine> {
    let folder = cluster.state.path("nodes").join(node::name(number));
    std::fs::create_dir_all(&folder)
        .with_context(|| format!("cannot create {}", folder.display()))?;
    let mut credentials = Credentials::from([
        ("kiln.join".to_owned(), cluster.join(&cluster.state.token)?),
        ("kiln.hostname".to_owned(), node::name(number)),
    ]);
    credentials.append(&mut cluster.registry_credentials()?);
    let mut extra = node::hand_over(Channel::default(), &credentials, &folder)?.arguments;
    extra.extend(["-uuid".to_owned(), node::uuid(number)]);
    let network =
        Network::Segment { socket: cluster.segment.socket(number), mac: node::mac(number) };
    Ok(Machine { network, extra, ..machine.clone() })
}
