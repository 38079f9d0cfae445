//! Rollbacks, which an annotation of a site asks for.

use anyhow::Result;

use crate::publish::manifest::Manifest;
use crate::syncer::desired::Desired;
use crate::syncer::shared::Shared;

/// Brings the revision into force that the annotation wishes.
pub fn roll(shared: &Shared, site: &Desired) {
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
