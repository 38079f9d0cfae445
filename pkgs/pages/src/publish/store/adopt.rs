//! Revisions that another syncer has published, copied into the store.

use std::io;

use tempfile::NamedTempFile;

use super::{Store, lock};
use crate::digest::Digest;
use crate::key::SiteKey;
use crate::publish::manifest::Manifest;

impl Store {
    /// True if a pack is on the disk.
    #[must_use]
    pub fn has(&self, digest: Digest) -> bool {
        self.pack_path(digest).is_file()
    }

    /// Takes over the manifest of another syncer with the packs that were missing here. Returns false,
    /// and changes nothing, if a pack is still missing: it was collected while others arrived.
    pub fn adopt(
        &self,
        site: &SiteKey,
        manifest: &Manifest,
        packs: Vec<(Digest, NamedTempFile)>,
    ) -> io::Result<bool> {
        for (_, pack) in &packs {
            pack.as_file().sync_all()?;
        }
        // No collection runs between the packs' renames and the manifest's.
        let mut sites = lock(&self.sites);
        for (digest, pack) in packs {
            pack.persist(self.pack_path(digest)).map_err(|error| error.error)?;
        }
        if !manifest.revisions.iter().all(|revision| self.has(revision.digest)) {
            return Ok(false);
        }
        self.write(site, manifest)?;
        sites.insert(site.clone(), manifest.clone());
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Store;
    use super::super::tests::{key, publish};
    use crate::digest::Digest;
    use std::io::Write as _;

    #[test]
    fn a_copy_is_adopted_with_all_of_its_packs_or_not_at_all() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let leader = Store::open(one.path()).unwrap();
        let follower = Store::open(two.path()).unwrap();
        let first = publish(&leader, "a/site", "1");
        publish(&leader, "a/site", "2");
        let manifest = leader.manifest(&key("a/site")).unwrap();
        let pack = |content: &str| {
            let mut pack = follower.begin().unwrap();
            pack.write_all(content.as_bytes()).unwrap();
            (Digest::of(content.as_bytes()), pack)
        };
        assert!(!follower.adopt(&key("a/site"), &manifest, vec![pack("2")]).unwrap());
        assert!(follower.manifest(&key("a/site")).is_none() && !follower.has(first));
        assert!(follower.adopt(&key("a/site"), &manifest, vec![pack("1"), pack("2")]).unwrap());
        assert_eq!(follower.sites(), leader.sites());
        drop(follower);
        assert_eq!(Store::open(two.path()).unwrap().sites(), leader.sites());
    }
}
