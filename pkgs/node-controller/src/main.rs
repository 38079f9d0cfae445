//! Runs the reconcilers until a signal; see [`node_controller`] for the code and `--help` for usage.

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use kiln_controller::operations;
use node_controller::context::Context;
use node_controller::options::{self, Command, Options};
use node_controller::{cluster, serving};
use tokio::signal::unix::{SignalKind, signal};

fn main() -> ExitCode {
    kiln_daemon::main("node-controller", env!("CARGO_PKG_VERSION"), |arguments| start(&arguments))
}

fn start(arguments: &[OsString]) -> Result<()> {
    match options::parse(arguments)? {
        Command::Help => {
            print!("{}", options::HELP);
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
    let context = Context::new(options).await?;
    let port = operations::listen(options.operations).await?;
    tracing::info!(server = %context.server, operations = %options.operations, "started");
    tokio::select! {
        _ = terminate.recv() => tracing::info!("stopped by SIGTERM"),
        _ = interrupt.recv() => tracing::info!("stopped by SIGINT"),
        () = operations::serve(port, &context.status) => {}
        () = cluster::watch_nodes(&context) => {}
        () = serving::run(&context) => {}
    }
    Ok(())
}
