//! The tasks of previews.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use super::look::{Looked, look};
use super::report::{MANAGER, document};
use crate::key::SiteKey;
use crate::queue::plan::End;
use crate::syncer::cluster::Cluster;
use crate::syncer::desired::Desired;
use crate::syncer::report::date;
use crate::syncer::shared::{Shared, now};

/// The longest pause of the task that takes sites from the queue.
const PAUSE_MAX: Duration = Duration::from_mins(1);

/// Takes sites from the queue, forever.
pub async fn work(shared: &Arc<Shared>, cluster: &Cluster) {
    loop {
        // Before all sites are known, the share of a namespace would look too large.
        if shared.leads() && shared.inner().is_complete {
            while let Some(key) = shared.previews.take(now()) {
                tokio::spawn(one(shared.clone(), cluster.clone(), key));
            }
        }
        let next = shared.previews.next();
        let pause = next.map_or(PAUSE_MAX, |next| next.saturating_sub(now()).min(PAUSE_MAX));
        tokio::select! {
            () = shared.previews.wake.notified() => {}
            () = sleep(pause.max(Duration::from_millis(10))) => {}
        }
    }
}

/// Looks at one site.
async fn one(shared: Arc<Shared>, cluster: Cluster, key: SiteKey) {
    let Some(site) = shared.site(&key) else {
        return shared.previews.done(&key, End::Success, now());
    };
    let login = cluster.login(&site).await.map_err(|error| format!("{error:#}"));
    let (own, looked_at) = (shared.clone(), site.clone());
    let task = tokio::task::spawn_blocking(move || look(&own, &looked_at, login)).await;
    let works = task.as_ref().is_ok_and(|looked| looked.works);
    let end = if works { End::Success } else { End::Failure };
    shared.previews.done(&key, end, now());
    match (task, shared.site(&key)) {
        (Ok(looked), Some(site)) => {
            shared.offer(&key);
            report(&cluster, &site, &looked).await;
        }
        (Ok(_), None) => {
            // The site was deleted meanwhile.
            if let Err(error) = shared.store.remove_previews(&key) {
                tracing::warn!(site = %key, "cannot remove the previews: {error}");
            }
        }
        (Err(error), _) => tracing::warn!(site = %key, "a look at the previews failed: {error}"),
    }
}

/// Writes the previews to the status if that changes it.
async fn report(cluster: &Cluster, site: &Desired, looked: &Looked) {
    let Some(document) = document(site, &looked.view, &date(now())) else { return };
    if let Err(error) = cluster.write(site, MANAGER, &document).await {
        tracing::warn!(site = %site.key, "{error:#}");
    }
}
