//! The election among several syncers: one leads, and the others follow.
//!
//! Two leaders at a time do no harm, because publishing the same commit gives the same pack, and each
//! writes the same fields of a status under one field manager. So a leader goes on while the API server is
//! silent, and ends only when another one leads: after a pause of the process, for example. It ends the
//! whole process, so that no fetch under way outlives the lead.

use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Result, bail};
use kube::Client;
use tokio::time::{Instant, sleep};

use crate::key::SiteKey;
use crate::leader::{Elector, Lost};
use crate::syncer::roll::roll;
use crate::syncer::shared::{Place, Shared, now};

/// The Lease of the syncer that leads. Its holder is the address of that syncer.
const LEASE: &str = "pages-syncer";

/// The time for which a syncer without revisions lets one with revisions lead first.
const PATIENCE: Duration = Duration::from_secs(10);

/// The longest wait for the first look at a site after a takeover.
const HURRY: Duration = Duration::from_mins(1);

/// The time for which a stopped leader answers, until no request reaches it any more.
const DRAIN: Duration = Duration::from_secs(5);

/// The time between two looks for the next leader.
const LOOK: Duration = Duration::from_millis(500);

/// Returns this syncer's part of the election; nothing if it is the only syncer.
pub fn elector(shared: &Shared, client: Client) -> Option<Elector> {
    let name = shared.options.peer()?.to_string();
    Some(Elector::new(client, &shared.options.namespace, LEASE, &name))
}

/// Stands for election, leads, and returns when another syncer leads.
pub async fn stand(shared: &Shared, elector: Option<&mut Elector>) -> Result<()> {
    let Some(elector) = elector else {
        take_over(shared);
        return std::future::pending().await;
    };
    elector
        .acquire(|holder| {
            follow(shared, holder);
            if shared.is_whole.load(Ordering::Relaxed) { Duration::ZERO } else { PATIENCE }
        })
        .await;
    take_over(shared);
    loop {
        let confirmed = || {
            if shared.is_unsure.swap(false, Ordering::Relaxed) {
                tracing::info!("the lead is confirmed again");
            }
        };
        match elector.keep(confirmed).await {
            Lost::Other => bail!("another syncer leads; this one must start again to follow it"),
            Lost::Silence(error) => {
                if !shared.is_unsure.swap(true, Ordering::Relaxed) {
                    tracing::warn!("cannot renew the Lease: {error:#}; leading on");
                }
            }
        }
    }
}

/// Gives the lead back, and passes requests on to the next leader for a while.
pub async fn stop(shared: &Shared, elector: Option<&mut Elector>) {
    let Some(elector) = elector else { return };
    shared.place.send_replace(Place::Waits);
    if let Err(error) = elector.release().await {
        tracing::warn!("{error:#}");
    }
    let end = Instant::now() + DRAIN;
    while Instant::now() < end {
        if let Ok(holder) = elector.holder().await {
            follow(shared, &holder);
        }
        sleep(LOOK).await;
    }
}

/// Records the leader, which is another syncer.
fn follow(shared: &Shared, holder: &str) {
    let own = shared.options.peer();
    let leader = holder.parse::<SocketAddr>().ok().filter(|leader| Some(*leader) != own);
    let place = leader.map_or(Place::Waits, Place::Follows);
    shared.place.send_if_modified(|current| {
        let is_new = *current != place;
        if is_new && let Place::Follows(leader) = place {
            tracing::info!(%leader, "follows");
        }
        *current = place;
        is_new
    });
}

/// Begins to lead, with the revisions that are here.
fn take_over(shared: &Shared) {
    shared.is_unsure.store(false, Ordering::Relaxed);
    let keys: Vec<SiteKey> = shared.inner().sites.keys().cloned().collect();
    for key in &keys {
        shared.judge(key);
    }
    shared.place.send_replace(Place::Leads);
    for key in &keys {
        if let Some(site) = shared.site(key) {
            roll(shared, &site);
        }
        shared.offer(key);
    }
    let mut inner = shared.inner();
    let requested = std::mem::take(&mut inner.requested);
    for key in requested {
        inner.queue.request(&key, now());
    }
    drop(inner);
    hurry(shared);
    tracing::info!(sites = keys.len(), "leads");
    shared.wake.notify_one();
    shared.previews.wake.notify_one();
    shared.news.send_replace(());
}

/// Looks at all sites soon, because an earlier leader may have accepted requests that it has not carried
/// out.
pub fn hurry(shared: &Shared) {
    shared.inner().queue.hurry(HURRY, now());
    shared.wake.notify_one();
}
