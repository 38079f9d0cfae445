//! One fetch and its publishing. Blocks, therefore it runs in a thread of its own.

use std::cell::OnceCell;
use std::fmt;
use std::time::Instant;

use crate::archive::limits::Refusal;
use crate::archive::tree::Tree;
use crate::git::lfs::WithLfs;
use crate::git::limits::Failure;
use crate::git::login::Login;
use crate::git::remote::{Branch, Fetched};
use crate::key::SiteKey;
use crate::publish::manifest::Revision;
use crate::publish::note::Notes;
use crate::publish::pack::{PackError, build};
use crate::publish::reuse::Reuse;
use crate::publish::tree::Objects;
use crate::publish::walk::{Bounds, Stop, walk};
use crate::syncer::desired::Desired;
use crate::syncer::shared::{Shared, now};

/// The most bytes of all files of a site together.
const SITE_BYTES_MAX: u64 = 512 << 20;

/// The result of a fetch.
#[derive(Debug)]
pub enum Outcome {
    /// The branch has no new commit.
    Unchanged,
    /// A revision was published, with remarks.
    Published(Notes),
    /// Another revision may have come into force; nothing was fetched.
    Rolled,
    /// The site waits for an upload; nothing was fetched.
    Idle,
    /// All revisions were removed on request.
    Removed,
    /// The site is gone, or its specification has changed in the meantime.
    Outdated,
    /// The last revision stays.
    Failed {
        /// The reason: one word.
        reason: &'static str,
        /// The message for people.
        message: String,
    },
}

/// Returns the outcome of a failure.
pub fn failed(reason: &'static str, message: &dyn fmt::Display) -> Outcome {
    Outcome::Failed { reason, message: message.to_string() }
}

impl From<Failure> for Outcome {
    fn from(failure: Failure) -> Self {
        failed(failure.reason(), &failure)
    }
}

impl From<Refusal> for Outcome {
    fn from(refusal: Refusal) -> Self {
        failed(refusal.reason(), &refusal)
    }
}

/// Fetches the branch of a site, and publishes a new commit.
#[must_use]
pub fn sync(shared: &Shared, site: &Desired, login: Option<Login>) -> Outcome {
    match attempt(shared, site, login) {
        Ok(outcome) | Err(outcome) => outcome,
    }
}

fn attempt(shared: &Shared, site: &Desired, login: Option<Login>) -> Result<Outcome, Outcome> {
    let url = site.url.clone().map_err(|bad| failed("BadRepository", &bad))?;
    let branch = Branch { url, name: site.branch.clone(), login };
    let manifest = shared.store.manifest(&site.key);
    let newest = manifest.as_ref().and_then(|manifest| manifest.newest());
    let known = newest.filter(|newest| newest.source == site.source());
    let known = known.map(|newest| newest.commit.as_str());
    let start = Instant::now();
    let fetched = shared.fetcher.fetch(&branch, known, &shared.store.scratch());
    shared.metrics.fetching.add(start.elapsed());
    match fetched? {
        Fetched::Unchanged => Ok(Outcome::Unchanged),
        Fetched::Commit(snapshot)
            if site.commit.as_ref().is_some_and(|commit| *commit != snapshot.commit()) =>
        {
            Ok(Outcome::Outdated)
        }
        Fetched::Commit(snapshot) => {
            let (root, commit, scratch) =
                (snapshot.root(), snapshot.commit(), shared.store.scratch());
            if !shared.options.fetches_lfs {
                return publish(shared, site, &*snapshot, root, commit);
            }
            let objects = WithLfs {
                snapshot: &snapshot,
                fetcher: &shared.fetcher,
                branch: &branch,
                scratch: &scratch,
                stored: OnceCell::new(),
            };
            publish(shared, site, &objects, root, commit)
        }
    }
}

/// Publishes an uploaded archive; its digest is the commit.
#[must_use]
pub fn publish_upload(shared: &Shared, site: &Desired, tree: &Tree, commit: String) -> Outcome {
    let manifest = shared.store.manifest(&site.key);
    let newest = manifest.as_ref().and_then(|manifest| manifest.newest());
    if newest.is_some_and(|newest| newest.source == site.source() && newest.commit == commit) {
        return Outcome::Unchanged;
    }
    match publish(shared, site, tree, tree.root(), commit) {
        Ok(outcome) | Err(outcome) => outcome,
    }
}

fn publish<O: Objects>(
    shared: &Shared,
    site: &Desired,
    objects: &O,
    root: O::Id,
    commit: String,
) -> Result<Outcome, Outcome>
where
    Outcome: From<O::Error>,
    O::Error: fmt::Display,
{
    let start = Instant::now();
    let disk = |error: std::io::Error| failed("DiskError", &error);
    let files = walk(objects, root, &site.folder, &Bounds::default());
    let files = files.map_err(|stop| match stop {
        Stop::Source(failure) => failure.into(),
        Stop::NoFolder(_) => failed("FolderNotFound", &stop),
        Stop::TooMany(_) => failed("LimitExceeded", &stop),
    })?;
    // A preview that is new has most files in common with its site.
    let reuse = newest_pack(shared, &site.key).or_else(|| newest_pack(shared, &site.key.site()));
    let pack = shared.store.begin().map_err(disk)?;
    let scratch = shared.store.scratch();
    let built = build(objects, files, SITE_BYTES_MAX, reuse.as_ref(), &scratch, pack.as_file());
    let built = built.map_err(|error| match error {
        PackError::Source(failure) => failure.into(),
        PackError::TooLarge(_) => failed("LimitExceeded", &error),
        PackError::Empty => failed("SiteEmpty", &error),
        PackError::Rules => failed("BadRules", &error),
        PackError::Disk(_) => failed("DiskError", &error),
    })?;
    if !shared.is_current(site) {
        return Ok(Outcome::Outdated);
    }
    let revision = Revision {
        digest: built.digest,
        bytes: built.bytes,
        files: built.files,
        commit,
        source: site.source(),
        time: now().as_secs(),
    };
    // A preview has no older revision.
    let keep = if site.key.preview().is_some() { 1 } else { shared.options.keep };
    shared.store.publish(&site.key, pack, revision, keep).map_err(disk)?;
    crate::syncer::metrics::add(&shared.metrics.bytes, built.bytes);
    shared.metrics.publishing.add(start.elapsed());
    Ok(Outcome::Published(built.notes))
}

fn newest_pack(shared: &Shared, site: &SiteKey) -> Option<Reuse> {
    let manifest = shared.store.manifest(site)?;
    Reuse::open(&shared.store.pack_path(manifest.newest()?.digest))
}
