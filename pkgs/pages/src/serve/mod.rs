//! `pages serve`: answers the visitors of all sites.
//!
//! The static server's library answers requests; a thread follows the syncer and swaps one site at
//! a time. The process has no access to the cluster's API, and its only secret is the token for
//! the syncer.

pub mod options;
mod sites;

use std::ffi::OsString;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use kiln_daemon::exit::Exit;
use kiln_daemon::signal::Requests;
use kiln_server::threads::spawn;
use static_server::content::Content;
use static_server::listen::Place;
use static_server::machine;
use static_server::server::{Service, serve};
use static_server::shared::State;

use crate::replica::client::Client;
use crate::replica::follow::follow;
use crate::replica::plan::Plan;
use crate::replica::store::Store;
use crate::serve::options::{Command, HELP, Options};
use crate::serve::sites::Sites;

/// The stack of the following thread, in bytes.
const STACK: usize = 1 << 20;

/// Runs the role with the arguments after its name.
pub fn main(arguments: &[OsString]) -> Result<()> {
    match options::parse(arguments)? {
        Command::Help => {
            print!("{HELP}");
            Ok(())
        }
        Command::Run(options) => run(&options),
    }
}

fn run(options: &Options) -> Result<()> {
    let signals = Requests::new().context("cannot block signals")?;
    let store = Store::open(&options.data).context(Exit::Config)?;
    let plan = Plan::new(store.table());
    let mut sites = Sites::new(store.clone());
    sites.open_all(plan.served());
    tracing::info!(sites = plan.served().sites.len(), "opened the sites of the last run");
    // A visitor of a site meets the limits that the static server has by default.
    let limits = static_server::options::Options::default().limits;
    let has_table = !plan.served().sites.is_empty();
    let content = Content::Mounts(sites.mounts().clone());
    let state = State { content, limits: limits.clone(), is_whole: has_table };
    let workers = options.workers.unwrap_or_else(machine::workers);
    let service = Service {
        place: Place::Tcp(options.listen),
        operators: Some(options.operations),
        workers,
        connections: machine::descriptors(workers, None).connections,
        access_log: options.access_log,
        drain_delay: options.drain,
    };
    let client = Client::new(&options.syncers, options.token.clone());
    let start = |shared| {
        let mut observer = sites::Publisher::new(sites, Arc::clone(&shared), limits);
        let run = move || {
            if let Err(error) = follow(&client, &store, plan, &mut observer) {
                tracing::error!("stopped following the syncer: {error:#}");
            }
        };
        spawn("replica", STACK, run).map(drop)
    };
    let reload = || tracing::info!("SIGHUP changes nothing: all sites come from the syncer");
    serve(&service, state, &signals, start, reload)
}
