//! The objects of one fetched commit.

use std::path::Path;

use gix_hash::{Kind, ObjectId};
use gix_object::{CommitRefIter, TreeRefIter};
use gix_pack::cache::Never;
use gix_zlib::Inflate;
use tempfile::TempDir;

use crate::git::limits::Failure;
use crate::publish::tree::{Blob, Entry, EntryKind, Objects};

/// A commit with its objects. Its folder goes with it.
pub struct Snapshot {
    bundle: gix_pack::Bundle,
    commit: ObjectId,
    root: ObjectId,
    time: i64,
    file_bytes: u64,
    _folder: TempDir,
}

impl std::fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Snapshot({})", self.commit)
    }
}

impl Snapshot {
    /// Opens a pack by the path of its index.
    pub fn open(
        folder: TempDir,
        index: &Path,
        commit: ObjectId,
        file_bytes: u64,
    ) -> Result<Self, Failure> {
        let bundle = gix_pack::Bundle::at(index, commit.kind());
        let bundle = bundle.map_err(|error| Failure::Disk(error.to_string()))?;
        let root = ObjectId::null(commit.kind());
        let mut snapshot = Self { bundle, commit, root, time: 0, file_bytes, _folder: folder };
        let (kind, bytes) = snapshot.object(&commit)?.ok_or_else(|| damaged(&commit))?;
        if kind != gix_object::Kind::Commit {
            return Err(Failure::Protocol("the branch does not point to a commit".to_owned()));
        }
        let hash = commit.kind();
        let tree = CommitRefIter::from_bytes(&bytes, hash).tree_id();
        snapshot.root = tree.map_err(|_| damaged(&commit))?;
        let committer = CommitRefIter::from_bytes(&bytes, hash).committer();
        snapshot.time = committer.map_or(0, |committer| committer.seconds());
        Ok(snapshot)
    }

    /// Returns the commit in hexadecimal digits.
    #[must_use]
    pub fn commit(&self) -> String {
        self.commit.to_string()
    }

    /// Returns the commit's time, in seconds since 1970.
    #[must_use]
    pub const fn time(&self) -> i64 {
        self.time
    }

    /// Returns the commit's tree.
    #[must_use]
    pub const fn root(&self) -> ObjectId {
        self.root
    }

    fn object(&self, id: &ObjectId) -> Result<Option<(gix_object::Kind, Vec<u8>)>, Failure> {
        let mut bytes = Vec::new();
        let found = self.bundle.find(id, &mut bytes, &mut Inflate::default(), &mut Never);
        let kind = found.map_err(|_| damaged(id))?.map(|(data, _)| data.kind);
        Ok(kind.map(|kind| (kind, bytes)))
    }
}

fn damaged(id: &ObjectId) -> Failure {
    Failure::Protocol(format!("the object {id} is missing or damaged"))
}

/// Returns the entries of a tree object, or nothing if it is malformed.
#[must_use]
pub fn entries(bytes: &[u8], hash: Kind) -> Option<Vec<Entry<ObjectId>>> {
    let entries = TreeRefIter::from_bytes(bytes, hash).map(|entry| {
        let entry = entry.ok()?;
        let kind = match entry.mode.kind() {
            gix_object::tree::EntryKind::Tree => EntryKind::Folder,
            gix_object::tree::EntryKind::Blob | gix_object::tree::EntryKind::BlobExecutable => {
                EntryKind::File
            }
            gix_object::tree::EntryKind::Link => EntryKind::Link,
            gix_object::tree::EntryKind::Commit => EntryKind::Submodule,
        };
        Some(Entry { name: entry.filename.to_vec(), kind, id: entry.oid.to_owned() })
    });
    entries.collect()
}

impl Objects for Snapshot {
    type Id = ObjectId;
    type Error = Failure;

    fn folder(&self, id: &ObjectId) -> Result<Vec<Entry<ObjectId>>, Failure> {
        match self.object(id)? {
            Some((gix_object::Kind::Tree, bytes)) => {
                entries(&bytes, id.kind()).ok_or_else(|| damaged(id))
            }
            _ => Err(damaged(id)),
        }
    }

    fn file(&self, id: &ObjectId) -> Result<Blob, Failure> {
        match self.object(id)? {
            Some((gix_object::Kind::Blob, bytes)) if bytes.len() as u64 <= self.file_bytes => {
                Ok(Blob::Bytes(bytes))
            }
            // The filter of the fetch left it out.
            None | Some((gix_object::Kind::Blob, _)) => Ok(Blob::TooLarge),
            Some(_) => Err(damaged(id)),
        }
    }
}
