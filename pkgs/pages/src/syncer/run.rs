//! The tasks of the syncer.

use std::ffi::OsString;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::runtime::Handle;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::sleep;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};

use crate::git::limits::Limits;
use crate::git::remote::Fetcher;
use crate::guard::lookup::{Guard, System};
use crate::key::SiteKey;
use crate::publish::store::Store;
use crate::queue::plan::End;
use crate::queue::saved::Saved;
use crate::syncer::cluster::Cluster;
use crate::syncer::follow::follow;
use crate::syncer::lead::{elector, stand, stop};
use crate::syncer::metrics::add;
use crate::syncer::options::{self, Command, HELP, Options};
use crate::syncer::previews;
use crate::syncer::report::report;
use crate::syncer::roll::roll;
use crate::syncer::shared::{Place, QUEUE, Shared, now};
use crate::syncer::work::{Outcome, sync};
use crate::syncer::{peer, serve};

/// The time between two savings of the queue and two collections of garbage.
const HOUSEKEEPING: Duration = Duration::from_mins(1);

/// The longest pause of the task that takes sites from the queue.
const PAUSE_MAX: Duration = Duration::from_mins(1);

/// Runs until a signal.
pub fn start(arguments: &[OsString]) -> Result<()> {
    match options::parse(arguments)? {
        Command::Help => {
            print!("{HELP}");
            Ok(())
        }
        Command::Run(options) => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.context("cannot start the runtime")?.block_on(run(*options))
        }
    }
}

async fn run(options: Options) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot handle SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot handle SIGINT")?;
    let client = crate::cluster::client(options.kubeconfig.as_deref()).await?;
    let cluster = Cluster::new(client.clone());
    let shared = Arc::new(shared(options)?);
    let pages = serve::listen(shared.options.listen).await?;
    let operations = serve::listen(shared.options.operations).await?;
    tracing::info!(listen = %shared.options.listen, data = ?shared.options.data, "started");
    let mut elector = elector(&shared, client);
    let router = peer::gated(serve::router(shared.clone(), cluster.clone()), &shared);
    let tasks = async {
        tokio::join!(
            follow(&shared, &cluster),
            work(&shared, &cluster),
            previews::tasks::work(&shared, &cluster),
            keep_house(&shared),
            peer::copy(&shared),
            peer::pass_on(&shared),
            serve::serve(pages, router),
            serve::serve(operations, serve::operations(shared.clone())),
        )
    };
    tokio::pin!(tasks);
    let result = tokio::select! {
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
        result = stand(&shared, elector.as_mut()) => result,
        _ = &mut tasks => Ok(()),
    };
    if result.is_ok() {
        tokio::select! {
            () = stop(&shared, elector.as_mut()) => {}
            _ = &mut tasks => {}
        }
    }
    shared.save();
    result
}

fn shared(options: Options) -> Result<Shared> {
    let store = Store::open(&options.data)?;
    let resolver = System::new(&Handle::current()).context("cannot read /etc/resolv.conf")?;
    let guard = Guard::new(options.policy.clone(), Arc::new(resolver));
    let tls = tls(options.git_ca.as_deref())?;
    let known_hosts = options.git_known_hosts.clone();
    let fetcher = Fetcher { guard, limits: Limits::default(), tls, known_hosts };
    let saved = std::fs::read(options.data.join(QUEUE)).ok();
    let saved = saved.and_then(|bytes| Saved::parse(&bytes)).unwrap_or_default();
    Ok(Shared::new(options, store, fetcher, saved))
}

fn tls(file: Option<&Path>) -> Result<TlsConfig> {
    let roots = match file {
        None => RootCerts::PlatformVerifier,
        Some(file) => {
            let bytes =
                std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
            let certificates = parse_pem(&bytes).filter_map(|item| match item {
                Ok(PemItem::Certificate(certificate)) => Some(certificate),
                _ => None,
            });
            let certificates: Vec<Certificate<'static>> = certificates.collect();
            RootCerts::from(certificates)
        }
    };
    Ok(TlsConfig::builder().root_certs(roots).build())
}

/// Takes sites from the queue, forever.
async fn work(shared: &Arc<Shared>, cluster: &Cluster) {
    let mut place = shared.place.subscribe();
    loop {
        if place.wait_for(|place| *place == Place::Leads).await.is_err() {
            return;
        }
        let next = loop {
            let mut inner = shared.inner();
            let Some(key) = inner.queue.take(now()) else { break inner.queue.next() };
            if !inner.busy.insert(key.clone()) {
                // The site was removed and made again while its fetch ran.
                inner.queue.done(&key, End::Failure, now());
                continue;
            }
            drop(inner);
            tokio::spawn(one(shared.clone(), cluster.clone(), key));
        };
        let pause = next.map_or(PAUSE_MAX, |next| next.saturating_sub(now()).min(PAUSE_MAX));
        tokio::select! {
            () = shared.wake.notified() => {}
            () = sleep(pause) => {}
        }
    }
}

/// Fetches one site.
async fn one(shared: Arc<Shared>, cluster: Cluster, key: SiteKey) {
    let outcome = match shared.site(&key) {
        None => Outcome::Outdated,
        Some(site) if site.is_upload => Outcome::Idle,
        Some(site) => match cluster.login(&site).await {
            Err(error) => Outcome::Failed { reason: "BadSecret", message: format!("{error:#}") },
            Ok(login) => {
                let own = shared.clone();
                let task = tokio::task::spawn_blocking(move || sync(&own, &site, login)).await;
                task.unwrap_or_else(|error| Outcome::Failed {
                    reason: "InternalError",
                    message: error.to_string(),
                })
            }
        },
    };
    let end = if matches!(outcome, Outcome::Failed { .. }) { End::Failure } else { End::Success };
    let due = {
        let mut inner = shared.inner();
        inner.busy.remove(&key);
        // No fetch can bring the files of an upload back.
        if end == End::Success && !matches!(outcome, Outcome::Idle) {
            inner.behind.remove(&key);
        }
        inner.queue.done(&key, end, now());
        inner.queue.due(&key)
    };
    shared.wake.notify_one();
    if let Some(site) = shared.site(&key) {
        roll(&shared, &site);
        shared.offer(&key);
        report(&shared, &cluster, &site, &outcome, due).await;
    }
}

/// Saves the queue and collects garbage, forever.
async fn keep_house(shared: &Arc<Shared>) {
    loop {
        sleep(HOUSEKEEPING).await;
        let own = shared.clone();
        let task = tokio::task::spawn_blocking(move || {
            own.save();
            if !own.inner().is_complete {
                return;
            }
            match own.store.collect() {
                Ok(collected) => add(&own.metrics.collected, collected.packs),
                Err(error) => tracing::warn!("cannot collect garbage: {error}"),
            }
        });
        if let Err(error) = task.await {
            tracing::warn!("housekeeping failed: {error}");
        }
    }
}
