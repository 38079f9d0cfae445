//! The revisions of one site.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;

/// The version of the file's format.
const VERSION: u32 = 1;

/// A published state of a site.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revision {
    /// The digest of the pack.
    pub digest: Digest,
    /// The size of the pack in bytes.
    pub bytes: u64,
    /// The number of files.
    pub files: u64,
    /// The commit, or the name of an upload.
    pub commit: String,
    /// The repository, branch and folder from which the commit was taken.
    pub source: String,
    /// The time of publishing, in seconds since 1970.
    pub time: u64,
}

/// The revisions of a site, and the one that is in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    version: u32,
    /// The revision in force.
    pub current: Digest,
    /// True after a rollback: new revisions are kept, but do not come into force.
    pub pinned: bool,
    /// The revisions, newest first. Has the current one.
    pub revisions: Vec<Revision>,
}

/// The reason why a rollback is impossible.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoRevision {
    /// The site has no such revision any more.
    Unknown(Digest),
    /// There is no older revision.
    NoOlder,
}

impl fmt::Display for NoRevision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(digest) => write!(f, "the site has no revision {digest}"),
            Self::NoOlder => f.write_str("the site has no older revision"),
        }
    }
}

impl std::error::Error for NoRevision {}

impl Manifest {
    /// Starts with a first revision.
    #[must_use]
    pub fn new(first: Revision) -> Self {
        let current = first.digest;
        Self { version: VERSION, current, pinned: false, revisions: vec![first] }
    }

    /// Adds a revision, and drops the oldest ones above `keep`. The current one always stays.
    pub fn publish(&mut self, revision: Revision, keep: usize) {
        self.revisions.retain(|old| old.digest != revision.digest);
        if !self.pinned {
            self.current = revision.digest;
        }
        self.revisions.insert(0, revision);
        let current = self.current;
        let mut number = 0;
        self.revisions.retain(|revision| {
            number += 1;
            number <= keep.max(1) || revision.digest == current
        });
    }

    /// Brings an older revision into force and keeps it there: the named one, or else the one before
    /// the current one.
    pub fn rollback(&mut self, to: Option<Digest>) -> Result<(), NoRevision> {
        let place = |digest| self.revisions.iter().position(|one| one.digest == digest);
        let found = match to {
            Some(digest) => place(digest).ok_or(NoRevision::Unknown(digest))?,
            None => place(self.current).map_or(0, |place| place + 1),
        };
        self.current = self.revisions.get(found).ok_or(NoRevision::NoOlder)?.digest;
        self.pinned = true;
        Ok(())
    }

    /// Brings the newest revision into force and ends a rollback.
    pub fn resume(&mut self) {
        self.pinned = false;
        if let Some(newest) = self.revisions.first() {
            self.current = newest.digest;
        }
    }

    /// Returns the current revision.
    #[must_use]
    pub fn current(&self) -> Option<&Revision> {
        self.revisions.iter().find(|revision| revision.digest == self.current)
    }

    /// Returns the newest revision.
    #[must_use]
    pub fn newest(&self) -> Option<&Revision> {
        self.revisions.first()
    }

    /// Parses a manifest from a disk; nothing if it is damaged or of another version.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let manifest: Self = serde_json::from_slice(bytes).ok()?;
        (manifest.version == VERSION && manifest.current().is_some()).then_some(manifest)
    }
}

#[cfg(test)]
mod tests {
    use super::{Manifest, NoRevision, Revision};
    use crate::digest::Digest;
    use proptest::prelude::*;

    fn revision(number: u8) -> Revision {
        Revision {
            digest: Digest::of(&[number]),
            bytes: 1,
            files: 1,
            commit: number.to_string(),
            source: String::new(),
            time: 0,
        }
    }

    fn commits(manifest: &Manifest) -> Vec<&str> {
        manifest.revisions.iter().map(|revision| revision.commit.as_str()).collect()
    }

    #[test]
    fn a_rollback_holds_until_it_is_ended() {
        let mut manifest = Manifest::new(revision(1));
        assert_eq!(manifest.rollback(None), Err(NoRevision::NoOlder));
        manifest.publish(revision(2), 3);
        manifest.rollback(None).unwrap();
        assert_eq!(manifest.current().unwrap().commit, "1");
        for number in 3..9 {
            manifest.publish(revision(number), 3);
        }
        assert_eq!(commits(&manifest), ["8", "7", "6", "1"]);
        assert_eq!(manifest.current().unwrap().commit, "1");
        let unknown = Digest::of(b"other");
        assert_eq!(manifest.rollback(Some(unknown)), Err(NoRevision::Unknown(unknown)));
        manifest.resume();
        assert_eq!(manifest.current().unwrap().commit, "8");
        manifest.publish(revision(9), 3);
        assert_eq!(commits(&manifest), ["9", "8", "7"]);
    }

    #[test]
    fn a_revision_that_returns_is_listed_once() {
        let mut manifest = Manifest::new(revision(1));
        manifest.publish(revision(2), 3);
        manifest.publish(Revision { commit: "again".to_owned(), ..revision(1) }, 3);
        assert_eq!(commits(&manifest), ["again", "2"]);
        assert_eq!(manifest.current, Digest::of(&[1]));
    }

    #[test]
    fn a_damaged_manifest_is_not_used() {
        let text = serde_json::to_vec(&Manifest::new(revision(1))).unwrap();
        assert_eq!(Manifest::parse(&text), Some(Manifest::new(revision(1))));
        for end in 0..text.len() {
            assert_eq!(Manifest::parse(&text[..end]), None);
        }
        let other = Manifest { current: Digest::of(b"other"), ..Manifest::new(revision(1)) };
        assert_eq!(Manifest::parse(&serde_json::to_vec(&other).unwrap()), None);
    }

    proptest! {
        #[test]
        fn the_current_revision_is_always_listed(
            steps in proptest::collection::vec((0_u8..4, 0_u8..6, 0_usize..4), 0..30)
        ) {
            let mut manifest = Manifest::new(revision(0));
            for (step, number, keep) in steps {
                match step {
                    0 | 1 => manifest.publish(revision(number), keep),
                    2 => drop(manifest.rollback(Some(Digest::of(&[number])))),
                    _ => manifest.resume(),
                }
                prop_assert!(manifest.current().is_some());
                prop_assert!(manifest.revisions.len() <= keep.max(1) + 7);
            }
        }
    }
}
