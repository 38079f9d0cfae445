//! One pass over all sites: makes the world as the plan says, and writes what came of it.

use std::cell::LazyCell;
use std::collections::{BTreeMap, BTreeSet, HashSet};

use anyhow::Result;
use futures_util::StreamExt as _;
use futures_util::stream;
use k8s_openapi::jiff::Timestamp;

use super::calls::{Calls, Made};
use super::conditions::{self, UNCONFIRMED, is_same};
use super::plan::Plan;
use super::previews;
use super::seen::Seen;
use super::state::Status;
use crate::api::{ConditionStatus, ROUTED, StaticSiteStatus};
use crate::ownership::claim::SiteId;
use crate::ownership::verdict::Verdict;
use crate::routing::ObjectKey;
use crate::routing::answer::Answer;
use crate::routing::kind::Kind;

/// The most calls at a time.
const CALLS_MAX: usize = 8;

/// The objects that are known to exist.
#[derive(Debug, Default)]
pub struct Existing {
    objects: BTreeMap<ObjectKey, Known>,
}

#[derive(Debug, Clone, Default)]
struct Known {
    made: Made,
    /// The hash of the applied object; nothing before the first pass.
    hash: Option<[u8; 32]>,
}

impl Existing {
    /// Replaces the objects of a kind by those that a list has. An object that another program has
    /// changed or deleted is applied again by the next pass.
    pub fn replace(&mut self, kind: Kind, list: Vec<(ObjectKey, Made)>) {
        let mut before = std::mem::take(&mut self.objects);
        self.objects = before.extract_if(.., |key, _| key.kind != kind).collect();
        for (key, made) in list {
            let known = before.remove(&key).filter(|known| known.made == made);
            let hash = known.and_then(|known| known.hash);
            self.objects.insert(key, Known { made, hash });
        }
    }

    /// Records a change that a watch has seen. Returns true if the object must be applied again, because
    /// another program has changed it. A change of an earlier generation is an old one of our own.
    pub fn see(&mut self, key: &ObjectKey, made: &Made) -> bool {
        let Some(known) = self.objects.get_mut(key) else { return false };
        let number = |made: &Made| made.generation.parse::<u64>().ok();
        let is_new = known.made.uid != made.uid || number(made) > number(&known.made);
        if is_new {
            known.made = made.clone();
            known.hash = None;
        }
        is_new
    }

    /// Records that a watch has seen the end of an object. Returns true if that was not known.
    pub fn lose(&mut self, key: &ObjectKey, made: &Made) -> bool {
        let is_known = self.objects.get(key).is_some_and(|known| known.made.uid == made.uid);
        is_known && self.objects.remove(key).is_some()
    }

    /// Returns the sites that have objects, as their annotations name them.
    fn sites(&self) -> HashSet<&str> {
        self.objects.values().filter_map(|known| known.made.site.as_deref()).collect()
    }
}

/// A pass: the plan, and the things that it works with.
pub struct Pass<'a> {
    /// The calls.
    pub calls: &'a Calls,
    /// The plan.
    pub plan: &'a Plan,
    /// The answers of other controllers.
    pub answers: &'a BTreeMap<ObjectKey, Answer>,
    /// Counters.
    pub state: &'a Status,
    /// The scheme of addresses in the status.
    pub scheme: &'a str,
}

impl Pass<'_> {
    /// Makes all changes, and writes the statuses of `some` sites and of those with a route that failed.
    /// Returns false if another attempt is needed.
    pub async fn run(
        &self,
        sites: &mut BTreeMap<SiteId, Seen>,
        existing: &mut Existing,
        some: &BTreeSet<SiteId>,
    ) -> bool {
        let mut works = self.finalize(sites, existing).await;
        works &= self.delete(existing).await;
        let failed = self.apply(existing).await;
        works &= failed.is_empty();
        let faults = self.plan.faults(&failed);
        let some = some.iter().chain(faults.keys().copied().filter(|site| !some.contains(site)));
        works &= self.report(sites, some, &failed).await;
        // Again, for sites whose routes are gone now.
        works &= self.finalize(sites, existing).await;
        if works {
            self.state.works();
        }
        works
    }

    /// Writes the statuses of some sites whose objects are all as planned. Returns false if another attempt
    /// is needed.
    pub async fn refresh(
        &self,
        sites: &mut BTreeMap<SiteId, Seen>,
        some: &BTreeSet<SiteId>,
    ) -> bool {
        self.report(sites, some.iter(), &BTreeMap::new()).await
    }

    /// Adds the finalizer of sites before they have routes, and removes it after.
    async fn finalize(&self, sites: &mut BTreeMap<SiteId, Seen>, existing: &Existing) -> bool {
        let existing = LazyCell::new(|| existing.sites());
        let maybe = sites.values().filter(|seen| seen.is_leaving || !seen.has_finalizer());
        let changes = maybe.filter_map(|seen| {
            let granted = matches!(self.plan.verdicts.get(&seen.id), Some(Verdict::Granted { .. }));
            let has_routes = granted || existing.contains(seen.id.key.to_string().as_str());
            Some((seen.clone(), seen.finalizers(has_routes)?))
        });
        let changes: Vec<_> = changes.collect();
        let calls = stream::iter(changes).map(|(seen, wanted)| async move {
            (
                seen.id.clone(),
                self.calls.finalizers(&seen, &wanted).await.map(|done| (done, wanted)),
            )
        });
        let results: Vec<_> = calls.buffer_unordered(CALLS_MAX).collect().await;
        let mut works = true;
        for (id, result) in results {
            match (result, sites.get_mut(&id)) {
                // The watch brings the new version.
                (Ok((true, wanted)), Some(seen)) => seen.finalizers = wanted,
                // The object has changed meanwhile, perhaps only in fields that are not remembered.
                (Ok(_), _) => works = false,
                (Err(error), _) => works = self.failed(&error),
            }
        }
        works
    }

    async fn delete(&self, existing: &mut Existing) -> bool {
        let gone = existing.objects.iter().filter(|(key, _)| !self.plan.objects.contains_key(key));
        let gone: Vec<(ObjectKey, Made)> =
            gone.map(|(key, known)| (key.clone(), known.made.clone())).collect();
        let calls = stream::iter(gone).map(|(key, made)| async move {
            let result = self.calls.delete(&key, &made).await;
            (key, result)
        });
        let results: Vec<(ObjectKey, Result<()>)> =
            calls.buffer_unordered(CALLS_MAX).collect().await;
        let mut works = true;
        for (key, result) in results {
            match result {
                Ok(()) => {
                    self.state.wrote();
                    existing.objects.remove(&key);
                }
                Err(error) => works = self.failed(&error),
            }
        }
        works
    }

    /// Applies the objects that are new or different. Returns the causes of failures.
    async fn apply(&self, existing: &mut Existing) -> BTreeMap<ObjectKey, String> {
        let different = self.plan.objects.iter().filter_map(|(key, wanted)| {
            let hash = wanted.hash;
            let known = existing.objects.get(key);
            let is_same = known.is_some_and(|known| known.hash == Some(hash));
            (!is_same).then_some((key, wanted, hash, known.is_some()))
        });
        let different: Vec<_> = different.collect();
        let calls = stream::iter(different).map(|(key, wanted, hash, is_known)| async move {
            (key, hash, self.calls.apply(key, &wanted.body(), is_known).await)
        });
        // In order, because a route follows the certificate that it names.
        let results: Vec<_> = calls.buffered(CALLS_MAX).collect().await;
        let mut failed = BTreeMap::new();
        for (key, hash, result) in results {
            match result {
                Ok(made) => {
                    self.state.wrote();
                    existing.objects.insert(key.clone(), Known { made, hash: Some(hash) });
                }
                Err(error) => {
                    failed.insert(key.clone(), format!("{error:#}"));
                    self.failed(&error.context(format!("cannot apply {}", key.name)));
                }
            }
        }
        failed
    }

    /// Writes the statuses that differ, and events about those whose cause differs.
    async fn report(
        &self,
        sites: &mut BTreeMap<SiteId, Seen>,
        some: impl Iterator<Item = &SiteId>,
        failed: &BTreeMap<ObjectKey, String>,
    ) -> bool {
        let now = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let faults = self.plan.faults(failed);
        let mut reasons = BTreeMap::new();
        let different = some.filter_map(|id| {
            let (verdict, seen) = (self.plan.verdicts.get(id)?, sites.get(id)?);
            let routes = self.plan.routes(id, &faults, self.answers);
            let mut status = conditions::status(seen, verdict, &routes, self.scheme, &now);
            let grants = self.plan.previews.get(id);
            status.previews = previews::granted(&status.previews, grants, self.scheme);
            (!is_same(&seen.status, &status)).then(|| (seen.clone(), status))
        });
        let different: Vec<_> = different.collect();
        let calls = stream::iter(different).map(|(seen, status)| async move {
            let result = self.write(&seen, &status).await;
            (seen.id, status, result)
        });
        let results: Vec<_> = calls.buffer_unordered(CALLS_MAX).collect().await;
        let mut works = true;
        for (id, status, result) in results {
            match (result, sites.get_mut(&id)) {
                (Ok(true), Some(seen)) => seen.status = status,
                (Ok(_), _) => {}
                (Err(error), _) => works = self.failed(&error),
            }
        }
        for seen in sites.values() {
            *reasons.entry(reason(&seen.status)).or_default() += 1;
        }
        self.state.passed(reasons, self.plan.objects.len());
        works
    }

    async fn write(&self, seen: &Seen, status: &StaticSiteStatus) -> Result<bool> {
        let is_written = self.calls.status(&seen.id, &conditions::document(seen, status)).await?;
        self.state.wrote();
        let (before, after) = (seen.status.condition(ROUTED), status.condition(ROUTED));
        if let Some(after) = after.filter(|_| is_written)
            && before.map(|it| &it.reason) != Some(&after.reason)
        {
            let is_warning = after.status == ConditionStatus::False;
            self.calls.event(seen, is_warning, &after.reason, &after.message).await;
            tracing::info!(site = %seen.id.key, reason = after.reason, "{}", after.message);
        }
        Ok(is_written)
    }

    fn failed(&self, error: &anyhow::Error) -> bool {
        self.state.fails(error);
        false
    }
}

/// Returns the reason of the condition `Routed` as one of the words that metrics have.
fn reason(status: &StaticSiteStatus) -> &'static str {
    use crate::ownership::verdict::Reason;
    let reason = status.condition(ROUTED).map_or("", |condition| condition.reason.as_str());
    let refusals = Reason::ALL.map(Reason::name);
    let known = refusals.into_iter().chain(["Routed", "RouteFailed", "ApiMissing"]).chain([
        UNCONFIRMED,
        "NotAccepted",
        "RefsNotResolved",
        "CertificateNotReady",
    ]);
    known.into_iter().find(|known| *known == reason).unwrap_or("Pending")
}
