//! `pages operator`: decides which site has which name, and makes its routes.
//!
//! Every change leads to one pass over everything: the facts ([`world`]) become a plan ([`plan`]), and
//! a pass ([`pass`]) makes the cluster equal to it. So a missed change, a restart and a repair are the
//! same case. Nothing is done before all lists are complete, because an object that no known site needs
//! is deleted.

mod answers;
pub mod calls;
pub mod conditions;
#[cfg(test)]
mod fixture;
pub mod options;
mod pass;
pub mod plan;
pub mod previews;
mod proofs;
mod resolver;
mod run;
pub mod seen;
pub mod state;
mod watch;
pub mod world;

use std::ffi::OsString;
use std::time::Duration;

use anyhow::{Context as _, Result};
use kiln_controller::operations;
use tokio::signal::unix::{SignalKind, signal};

use crate::cluster;
use crate::leader::Elector;
use options::{Command, HELP, Options};
use run::Operator;
use state::Status;

/// The Lease of the replica that acts.
const LEASE: &str = "pages-operator";

/// Runs the role with its own arguments.
pub fn start(arguments: &[OsString]) -> Result<()> {
    match options::parse(arguments)? {
        Command::Help => {
            print!("{HELP}");
            Ok(())
        }
        Command::Run(options) => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.context("cannot start the runtime")?.block_on(run(&options))
        }
    }
}

async fn run(options: &Options) -> Result<()> {
    // Handlers, because the kernel drops a signal that PID 1 of a container does not handle.
    let mut terminate = signal(SignalKind::terminate()).context("cannot handle SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot handle SIGINT")?;
    let client = cluster::client(options.kubeconfig.as_deref()).await?;
    let status = Status::default();
    let port = operations::listen(options.operations).await?;
    let name = options.identity.clone().map_or_else(host_name, Ok)?;
    let mut elector = Elector::new(client.clone(), &options.target.namespace, LEASE, &name);
    tracing::info!(replica = name, operations = %options.operations, "started");
    let result = tokio::select! {
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
        () = operations::serve(port, &status) => Ok(()),
        error = lead(&mut elector, &status, Operator::new(client, options, &status)) => Err(error),
    };
    match &result {
        Ok(()) => tracing::info!("stopped by a signal"),
        Err(_) => return result.context("cannot lead any longer"),
    }
    if let Err(error) = elector.release().await {
        tracing::warn!("{error:#}");
    }
    Ok(())
}

/// Waits for the lead, and works until it is lost.
async fn lead(elector: &mut Elector, status: &Status, mut operator: Operator<'_>) -> anyhow::Error {
    elector.acquire(|_| Duration::ZERO).await;
    status.leads();
    tracing::info!("leads");
    tokio::select! {
        lost = elector.keep(|| {}) => lost.into(),
        () = operator.run() => anyhow::anyhow!("the watches ended"),
    }
}

/// Returns the name of the host, which is that of the pod.
fn host_name() -> Result<String> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname");
    Ok(name.context("cannot read the name of the host; add --identity NAME")?.trim().to_owned())
}
