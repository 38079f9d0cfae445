//! The `StaticSites` of the cluster, followed by watches.

use std::sync::Arc;

use futures_util::stream::{BoxStream, SelectAll, StreamExt as _, select_all};
use tokio::time::{Instant, sleep_until};

use crate::key::SiteKey;
use crate::syncer::cluster::{Change, Cluster};
use crate::syncer::desired::Desired;
use crate::syncer::known::{Known, Step};
use crate::syncer::lead::hurry;
use crate::syncer::report::report;
use crate::syncer::roll::roll;
use crate::syncer::shared::Shared;
use crate::syncer::work::Outcome;

/// The wait after a failed look at the served groups.
const RETRY: std::time::Duration = std::time::Duration::from_secs(1);

/// Follows the sites of all groups that the API server serves, forever.
pub async fn follow(shared: &Arc<Shared>, cluster: &Cluster) {
    let mut known = Known::default();
    let mut changes: SelectAll<BoxStream<'static, Change>> = SelectAll::new();
    let mut recheck = Instant::now();
    loop {
        tokio::select! {
            Some((group, event)) = changes.next(), if !changes.is_empty() => match event {
                Ok(event) => known.apply(group, &event).into_iter().for_each(|step| act(shared, cluster, step)),
                Err(error) => tracing::warn!("cannot watch the sites: {error}; retrying"),
            },
            () = sleep_until(recheck) => {
                let wait = match cluster.groups().await {
                    Ok(groups) if groups.is_empty() => {
                        tracing::warn!("the cluster has no definition of sites; apply manifests/crd");
                        shared.options.recheck
                    }
                    Ok(groups) => {
                        if known.serve(groups) {
                            changes = select_all(known.groups().iter().map(|one| cluster.watch(*one)));
                        }
                        shared.options.recheck
                    }
                    Err(error) => {
                        tracing::warn!("{error:#}; retrying");
                        RETRY
                    }
                };
                recheck = Instant::now() + wait;
            }
        }
    }
}

fn act(shared: &Arc<Shared>, cluster: &Cluster, step: Step) {
    match step {
        Step::Take(site) => apply(shared, cluster, &site),
        Step::Leave(key) => forget(shared, &key),
        Step::Settle => settle(shared),
    }
}

fn forget(shared: &Shared, key: &SiteKey) {
    let removed = shared.store.remove(key).and_then(|()| shared.store.remove_previews(key));
    if let Err(error) = removed {
        tracing::warn!(site = %key, "cannot remove the revisions: {error}");
    }
    shared.forget(key);
}

/// Takes a site over.
fn apply(shared: &Arc<Shared>, cluster: &Cluster, site: &Desired) {
    let key = site.key.clone();
    let before = shared.site(&key);
    let leads = shared.leads();
    if leads {
        roll(shared, site);
    }
    shared.apply(site);
    shared.offer(&key);
    if leads && before.is_some_and(|before| before.rollback != site.rollback) {
        let (shared, cluster, site) = (shared.clone(), cluster.clone(), site.clone());
        tokio::spawn(async move {
            let due = shared.inner().queue.due(&key);
            report(&shared, &cluster, &site, &Outcome::Rolled, due).await;
        });
    }
}

/// Opens the table for servers, and removes the revisions of sites that no longer exist.
fn settle(shared: &Shared) {
    for key in shared.store.sites().keys().map(SiteKey::site) {
        if shared.site(&key).is_none() {
            forget(shared, &key);
        }
    }
    let is_first = !std::mem::replace(&mut shared.inner().is_complete, true);
    if is_first && shared.leads() {
        hurry(shared);
    }
    shared.news.send_replace(());
    shared.previews.wake.notify_one();
}
