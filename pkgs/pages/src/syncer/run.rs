//! The tasks of the syncer.

use std::ffi::OsString;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use futures_util::StreamExt as _;
use futures_util::stream::select_all;
use kiln_base::replace::{self, Durability};
use kube::runtime::watcher::Event;
use tokio::runtime::Handle;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::sleep;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};

use crate::api::Group;
use crate::git::limits::Limits;
use crate::git::remote::Fetcher;
use crate::guard::lookup::{Guard, System};
use crate::key::SiteKey;
use crate::publish::manifest::Manifest;
use crate::publish::store::Store;
use crate::queue::plan::End;
use crate::queue::saved::Saved;
use crate::syncer::cluster::Cluster;
use crate::syncer::desired::Desired;
use crate::syncer::metrics::add;
use crate::syncer::options::{self, Command, HELP, Options};
use crate::syncer::report::report;
use crate::syncer::serve;
use crate::syncer::shared::{Shared, now};
use crate::syncer::work::{Outcome, sync};

/// The file with the times of the queue.
const QUEUE: &str = "queue.json";

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
    let cluster = Cluster::new(crate::cluster::client(options.kubeconfig.as_deref()).await?);
    let shared = Arc::new(shared(options)?);
    let pages = serve::listen(shared.options.listen).await?;
    let operations = serve::listen(shared.options.operations).await?;
    tracing::info!(listen = %shared.options.listen, data = ?shared.options.data, "started");
    let result = tokio::select! {
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
        result = follow(&shared, &cluster) => result,
        () = work(&shared, &cluster) => Ok(()),
        () = keep_house(&shared) => Ok(()),
        () = serve::serve(pages, serve::router(shared.clone(), cluster.clone())) => Ok(()),
        () = serve::serve(operations, serve::operations(shared.clone())) => Ok(()),
    };
    save(&shared);
    result
}

fn shared(options: Options) -> Result<Shared> {
    let store = Store::open(&options.data)?;
    let resolver = System::new(&Handle::current()).context("cannot read /etc/resolv.conf")?;
    let guard = Guard::new(options.policy.clone(), Arc::new(resolver));
    let tls = tls(options.git_ca.as_deref())?;
    let fetcher = Fetcher { guard, limits: Limits::default(), tls };
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

/// Follows the `StaticSites` of the cluster.
async fn follow(shared: &Arc<Shared>, cluster: &Cluster) -> Result<()> {
    let groups = cluster.groups().await?;
    let mut complete: Vec<Group> = Vec::new();
    let mut changes = select_all(groups.iter().map(|group| cluster.watch(*group)));
    let mut listed: Vec<(Group, SiteKey)> = Vec::new();
    while let Some((group, event)) = changes.next().await {
        match event {
            Ok(Event::Init) => listed.retain(|(one, _)| *one != group),
            Ok(Event::InitDone) => {
                if !complete.contains(&group) {
                    complete.push(group);
                }
                let keys: Vec<SiteKey> = shared
                    .inner()
                    .sites
                    .values()
                    .filter(|site| site.group == group)
                    .map(|site| site.key.clone())
                    .filter(|key| !listed.contains(&(group, key.clone())))
                    .collect();
                for key in &keys {
                    forget(shared, key);
                }
                if complete.len() == groups.len() {
                    settle(shared);
                }
            }
            Ok(Event::InitApply(object)) => {
                if let Some(site) = Desired::new(group, &object) {
                    listed.push((group, site.key.clone()));
                    apply(shared, cluster, &site);
                }
            }
            Ok(Event::Apply(object)) => match Desired::new(group, &object) {
                Some(site) => apply(shared, cluster, &site),
                None => gone(shared, (group, &object)),
            },
            Ok(Event::Delete(object)) => gone(shared, (group, &object)),
            Err(error) => tracing::warn!("cannot watch the sites: {error}; retrying"),
        }
    }
    Ok(())
}

/// Forgets a site that is being deleted.
fn gone(shared: &Shared, (group, object): (Group, &kube::api::DynamicObject)) {
    let metadata = &object.metadata;
    let names = metadata.namespace.as_deref().zip(metadata.name.as_deref());
    let key = names.and_then(|(namespace, name)| SiteKey::new(namespace, name).ok());
    if let Some(key) = key
        && shared.site(&key).is_some_and(|site| site.group == group)
    {
        forget(shared, &key);
    }
}

fn forget(shared: &Shared, key: &SiteKey) {
    if let Err(error) = shared.store.remove(key) {
        tracing::warn!(site = %key, "cannot remove the revisions: {error}");
    }
    shared.forget(key);
}

/// Takes a site over. If both groups have a site of one name, that of our own group counts.
fn apply(shared: &Arc<Shared>, cluster: &Cluster, site: &Desired) {
    let key = site.key.clone();
    let known = shared.site(&key);
    if known.is_some_and(|known| known.group == Group::Kiln && site.group != Group::Kiln) {
        return;
    }
    let before = shared.site(&key);
    roll(shared, site);
    shared.apply(site);
    shared.offer(&key);
    if before.is_some_and(|before| before.rollback != site.rollback) {
        let (shared, cluster, site) = (shared.clone(), cluster.clone(), site.clone());
        tokio::spawn(async move {
            let due = shared.inner().queue.due(&key);
            report(&shared, &cluster, &site, &Outcome::Rolled, due).await;
        });
    }
}

/// Brings the revision into force that the annotation wishes.
fn roll(shared: &Shared, site: &Desired) {
    if let Err(error) = try_to_roll(shared, site) {
        tracing::warn!(site = %site.key, "cannot roll back: {error}");
    }
}

fn try_to_roll(shared: &Shared, site: &Desired) -> Result<()> {
    let Some(manifest) = shared.store.manifest(&site.key) else { return Ok(()) };
    let wish = site.rollback();
    let is_done = match wish {
        None => !manifest.pinned,
        Some(None) => manifest.pinned,
        Some(Some(digest)) => manifest.pinned && manifest.current == digest,
    };
    if is_done {
        return Ok(());
    }
    shared.store.change(&site.key, |manifest: &mut Manifest| {
        match wish {
            None => manifest.resume(),
            Some(to) => manifest.rollback(to)?,
        }
        Ok::<(), anyhow::Error>(())
    })?;
    Ok(())
}

/// Opens the table for servers, and removes the revisions of sites that no longer exist.
fn settle(shared: &Shared) {
    for key in shared.store.sites().keys() {
        if shared.site(key).is_none() {
            forget(shared, key);
        }
    }
    shared.inner().is_complete = true;
    shared.news.send_replace(());
}

/// Takes sites from the queue, forever.
async fn work(shared: &Arc<Shared>, cluster: &Cluster) {
    loop {
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
            save(&own);
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

fn save(shared: &Shared) {
    let bytes = shared.inner().queue.save(now()).bytes();
    let path = shared.options.data.join(QUEUE);
    if let Err(error) = replace::write(&path, &bytes, 0o640, Durability::File) {
        tracing::warn!("cannot save the queue: {error}");
    }
}
