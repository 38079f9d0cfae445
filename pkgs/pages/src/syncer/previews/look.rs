//! One look at the references of a site. Blocks, therefore it runs in a thread of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;

use super::report::{Facts, View};
use crate::api::Preview;
use crate::git::login::Login;
use crate::git::remote::Branch;
use crate::key::SiteKey;
use crate::previews::label;
use crate::previews::reference::Reference;
use crate::previews::share::{Candidate, within};
use crate::previews::state::{Live, State};
use crate::previews::wish::Wish;
use crate::syncer::desired::Desired;
use crate::syncer::report::date;
use crate::syncer::shared::{Shared, now};
use crate::syncer::work::{Outcome, sync};

/// The result of a look.
#[derive(Debug)]
pub struct Looked {
    /// The view for the status.
    pub view: View,
    /// False if a server or the disk failed.
    pub works: bool,
}

/// The previews that a site keeps.
struct Kept {
    previews: Vec<Live>,
    /// The number of previews above the site's own limit, and above that of its namespace.
    above: [usize; 2],
}

/// Looks at the references of a site, and publishes and removes previews. Without a login,
/// `login` has the cause, and previews only end.
#[must_use]
pub fn look(shared: &Shared, site: &Desired, login: Result<Option<Login>, String>) -> Looked {
    let Some(wish) = &site.previews else {
        clear(shared, site);
        return Looked { view: View::default(), works: true };
    };
    load(shared, site, wish);
    let mut fault = None;
    settle(shared, site, wish);
    match &login {
        Err(cause) => fault = Some(("BadSecret", cause.clone())),
        Ok(login) => match references(shared, site, wish, login.clone()) {
            Ok(listed) => {
                with_state(shared, site, |state| state.look(wish, &listed, now()));
                save(shared, site);
            }
            Err(cause) => fault = Some(cause),
        },
    }
    let mut kept = settle(shared, site, wish);
    let mut causes = BTreeMap::new();
    if let (None, Ok(login)) = (&fault, login) {
        causes = publish(shared, site, &kept.previews, login.as_ref());
        // The sizes are known now.
        kept = settle(shared, site, wish);
    }
    let is_full = with_state(shared, site, |state| state.is_full);
    let works = fault.is_none() && causes.is_empty();
    Looked { view: view(shared, site, &kept, fault, &causes, is_full), works }
}

/// Removes everything of a site that wants no previews any more.
fn clear(shared: &Shared, site: &Desired) {
    match shared.store.remove_previews(&site.key) {
        Ok(_) => {}
        Err(error) => tracing::warn!(site = %site.key, "cannot remove the previews: {error}"),
    }
    shared.previews.inner().states.remove(&site.key);
    collect(shared);
}

/// Reads the known references, unless they are in memory; after the loss of a disk, those that the
/// status shows. Adds the announced pull requests.
fn load(shared: &Shared, site: &Desired, wish: &Wish) {
    let source = source(site);
    let mut inner = shared.previews.inner();
    let is_known = inner.states.get(&site.key).is_some_and(|state| state.is_of(&source));
    if !is_known {
        let saved = shared.store.state(&site.key);
        let saved = saved.and_then(|bytes| State::parse(&bytes, &source));
        let state = saved.unwrap_or_else(|| shown(site, wish, &source));
        inner.states.insert(site.key.clone(), state);
    }
    let announced = inner.announced.remove(&site.key).unwrap_or_default();
    if let Some(state) = inner.states.get_mut(&site.key) {
        for (reference, is_closed) in announced {
            state.announce(reference, is_closed);
        }
    }
}

fn source(site: &Desired) -> String {
    site.url.as_ref().map(ToString::to_string).unwrap_or_default()
}

/// Returns the references that the status shows.
fn shown(site: &Desired, wish: &Wish, source: &str) -> State {
    let mut state = State::new(source);
    for preview in &site.status.previews {
        let end = preview.expires.as_deref().and_then(|text| text.parse::<Timestamp>().ok());
        let end = end.and_then(|end| u64::try_from(end.as_second()).ok()).map(Duration::from_secs);
        let known = preview.reference.parse().ok().zip(preview.commit.as_deref()).zip(end);
        if let Some(((reference, commit), end)) = known {
            state.restore(reference, commit, end.saturating_sub(wish.lifetime));
        }
    }
    state
}

fn with_state<T: Default>(shared: &Shared, site: &Desired, act: impl FnOnce(&mut State) -> T) -> T {
    shared.previews.inner().states.get_mut(&site.key).map(act).unwrap_or_default()
}

fn save(shared: &Shared, site: &Desired) {
    let bytes = with_state(shared, site, |state| state.bytes());
    if shared.is_current(site)
        && let Err(error) = shared.store.save_state(&site.key, &bytes)
    {
        tracing::warn!(site = %site.key, "cannot save the references: {error}");
    }
}

/// Asks the server for the references.
fn references(
    shared: &Shared,
    site: &Desired,
    wish: &Wish,
    login: Option<Login>,
) -> Result<BTreeMap<Reference, String>, (&'static str, String)> {
    let url = site.url.clone().map_err(|bad| ("BadRepository", bad.to_string()))?;
    let branch = Branch { url, name: site.branch.clone(), login };
    let listed = shared.fetcher.list(&branch, &wish.prefixes());
    let listed = listed.map_err(|failure| (failure.reason(), failure.to_string()))?;
    let known = listed.into_iter().filter_map(|(name, commit)| Some((name.parse().ok()?, commit)));
    Ok(known.collect())
}

/// Removes the previews that are over, and those above the limits. Returns the others, newest first.
fn settle(shared: &Shared, site: &Desired, wish: &Wish) -> Kept {
    let now = now();
    let sites = shared.with_previews(site.key.namespace());
    let mut inner = shared.previews.inner();
    let mut candidates = Vec::new();
    for (key, wish) in &sites {
        let live = inner.states.get(key).map(|state| state.live(wish, now)).unwrap_or_default();
        candidates
            .extend(live.iter().take(wish.max).filter_map(|live| candidate(shared, key, live)));
    }
    let others: BTreeSet<SiteKey> = candidates.iter().map(|one| one.key.clone()).collect();
    let fit = within(&shared.options.share, candidates);
    // Another site of the namespace has lost one.
    for lost in others.difference(&fit).map(SiteKey::site).filter(|key| *key != site.key) {
        if shared.store.previews(&lost).iter().any(|(key, _)| !fit.contains(key)) {
            inner.queue.request(&lost, now);
        }
    }
    let mut live =
        inner.states.get(&site.key).map(|state| state.live(wish, now)).unwrap_or_default();
    let all = live.len();
    live.truncate(wish.max);
    let own = live.len();
    live.retain(|live| {
        label::key(&site.key, &live.reference).is_some_and(|key| fit.contains(&key))
    });
    match live.iter().map(|live| live.expires).min() {
        Some(end) => drop(inner.ends.insert(site.key.clone(), end)),
        None => drop(inner.ends.remove(&site.key)),
    }
    drop(inner);
    let above = [all - own, own - live.len()];
    remove_others(shared, site, &live);
    Kept { previews: live, above }
}

fn candidate(shared: &Shared, site: &SiteKey, live: &Live) -> Option<Candidate> {
    let key = label::key(site, &live.reference)?;
    let manifest = shared.store.manifest(&key);
    let bytes = manifest.as_ref().and_then(|it| it.current()).map_or(0, |current| current.bytes);
    Some(Candidate { key, since: live.since, bytes })
}

/// Removes the revisions and entries of all previews of a site but the kept ones.
fn remove_others(shared: &Shared, site: &Desired, kept: &[Live]) {
    let kept: BTreeSet<SiteKey> =
        kept.iter().filter_map(|live| label::key(&site.key, &live.reference)).collect();
    let published = shared.store.previews(&site.key).into_iter().map(|(key, _)| key);
    let shown = site.published_previews().map(|preview| preview.site);
    let gone: BTreeSet<SiteKey> =
        published.chain(shown).filter(|key| !kept.contains(key)).collect();
    for key in &gone {
        if let Err(error) = shared.store.remove(key) {
            tracing::warn!(preview = %key, "cannot remove the revision: {error}");
        }
        shared.inner().feed.forget(key);
    }
    if !gone.is_empty() {
        shared.news.send_replace(());
        collect(shared);
    }
}

fn collect(shared: &Shared) {
    if !shared.inner().is_complete {
        return;
    }
    match shared.store.collect() {
        Ok(collected) => crate::syncer::metrics::add(&shared.metrics.collected, collected.packs),
        Err(error) => tracing::warn!("cannot collect garbage: {error}"),
    }
}

/// Fetches and publishes the previews whose commit is new. Returns the causes of failures.
fn publish(
    shared: &Shared,
    site: &Desired,
    previews: &[Live],
    login: Option<&Login>,
) -> BTreeMap<Reference, String> {
    let mut causes = BTreeMap::new();
    for live in previews {
        let Some(preview) = site.of_preview(&live.reference, &live.commit) else { continue };
        if commit(shared, &preview).as_deref() == Some(&live.commit) {
            continue;
        }
        match sync(shared, &preview, login.cloned()) {
            Outcome::Failed { message, .. } => {
                tracing::warn!(preview = %preview.key, "cannot publish: {message}");
                causes.insert(live.reference.clone(), message);
            }
            Outcome::Published(_) => tracing::info!(preview = %preview.key, "published"),
            _ => {}
        }
    }
    causes
}

/// Returns the commit of a preview that is published from its site's present source.
fn commit(shared: &Shared, preview: &Desired) -> Option<String> {
    let manifest = shared.store.manifest(&preview.key)?;
    let current = manifest.current()?;
    (current.source == preview.source()).then(|| current.commit.clone())
}

/// Returns the view of the kept previews.
fn view(
    shared: &Shared,
    site: &Desired,
    kept: &Kept,
    fault: Option<(&'static str, String)>,
    causes: &BTreeMap<Reference, String>,
    is_full: bool,
) -> View {
    let shown = |live: &Live| {
        let reference = &live.reference;
        let key = label::key(&site.key, reference)?;
        let manifest = shared.store.manifest(&key);
        let commit = manifest.and_then(|it| it.current().map(|current| current.commit.clone()));
        Some(Preview {
            reference: reference.to_string(),
            branch: reference.branch().map(str::to_owned),
            pull_request: reference.number(),
            commit,
            expires: Some(date(live.expires)),
            message: causes.get(reference).cloned(),
            ..Preview::default()
        })
    };
    let mut previews: Vec<Preview> = kept.previews.iter().filter_map(shown).collect();
    previews.sort_by(|a, b| a.reference.cmp(&b.reference));
    let published = previews.iter().filter(|preview| preview.commit.is_some()).count();
    let (reason, note) = match (fault, kept.above) {
        (Some((reason, message)), _) => (reason, Some(message)),
        _ if !causes.is_empty() => {
            ("NotPublished", Some(format!("{} could not be published", causes.len())))
        }
        (_, [0, 0]) if is_full => {
            ("TooMany", Some("too many branches match; choose narrower patterns".to_owned()))
        }
        (_, [0, 0]) => ("Published", None),
        (_, [own, namespace]) => (
            "TooMany",
            Some(format!(
                "the oldest are left out: {own} above the site's limit, {namespace} above the namespace's"
            )),
        ),
    };
    let is_complete = note.is_none();
    let message = [Some(format!("{published} published")), note];
    let message = message.into_iter().flatten().collect::<Vec<_>>().join("; ");
    View { previews, condition: Some(Facts { is_complete, reason, message }) }
}
