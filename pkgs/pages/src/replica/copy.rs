//! A copy of the leading syncer's revisions, for the syncer that follows it.
//!
//! The follower copies whole manifests, with all revisions that are kept, so that a rollback and an
//! uploaded site survive a takeover. A site that the leader does not name stays: the leader may have a
//! new disk. Sites whose objects are gone are removed by the follower's own watch.

use std::collections::BTreeSet;
use std::fs::File;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::key::SiteKey;
use crate::publish::manifest::Manifest;
use crate::publish::store::Store;
use crate::replica::plan::Transfer;

/// The manifests that changed after a generation.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Copies {
    /// The generation that the reader has afterwards, for its next request.
    pub generation: String,
    /// The manifests that are new or different.
    pub sites: Vec<Copy>,
    /// The sites whose revisions were removed since the reader's generation.
    #[serde(default)]
    pub removed: Vec<SiteKey>,
}

/// The manifest of a site.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Copy {
    /// The site.
    pub site: SiteKey,
    /// Its revisions.
    pub manifest: Manifest,
}

/// Takes over one site, with the packs that are missing, which `receive` transfers, unless `is_over` says
/// that the leader has changed meanwhile. Returns false if it must be tried again.
pub fn adopt(
    store: &Store,
    copy: &Copy,
    receive: impl Fn(&Transfer, &mut File) -> Result<()>,
    is_over: impl Fn() -> bool,
) -> Result<bool> {
    if store.manifest(&copy.site).as_ref() == Some(&copy.manifest) {
        return Ok(true);
    }
    let mut packs = Vec::new();
    for transfer in missing(&copy.manifest, |transfer| !store.has(transfer.revision)) {
        let mut pack = store.begin()?;
        receive(&transfer, pack.as_file_mut())?;
        packs.push((transfer.revision, pack));
    }
    Ok(!is_over() && store.adopt(&copy.site, &copy.manifest, packs)?)
}

/// Returns the packs of a manifest that are missing, each once.
fn missing(manifest: &Manifest, is_missing: impl Fn(&Transfer) -> bool) -> BTreeSet<Transfer> {
    let revisions = manifest.revisions.iter();
    let all = revisions.map(|one| Transfer { revision: one.digest, bytes: one.bytes });
    all.filter(|transfer| is_missing(transfer)).collect()
}
