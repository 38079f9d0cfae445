//! Bare git repositories on the disk, written object by object.
//!
//! A push by git costs the machine more than the fetch that is measured. A push here leaves what git's
//! `receive-pack` leaves, loose objects and a ref that was renamed into place, and `git http-backend`
//! serves it.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use flate2::Compression;
use flate2::write::ZlibEncoder;
use gix_hash::{Kind as Hash, ObjectId};
use gix_object::Kind;

/// The settings that git expects in a bare repository.
const CONFIG: &str = "[core]\n\trepositoryformatversion = 0\n\tbare = true\n";

/// Author and date of each commit; the date is a second of 2023.
const AUTHOR: &str = "Bench <bench@pages.test> 1700000000 +0000";

/// The branch that all sites have by default.
pub const BRANCH: &str = "refs/heads/main";

/// A bare repository.
pub struct Repository {
    folder: PathBuf,
}

impl Repository {
    /// Creates an empty repository.
    pub fn create(folder: PathBuf) -> Result<Self> {
        for part in ["objects", "refs/heads"] {
            let path = folder.join(part);
            fs::create_dir_all(&path)
                .with_context(|| format!("cannot create {}", path.display()))?;
        }
        write(&folder.join("config"), CONFIG.as_bytes())?;
        write(&folder.join("HEAD"), format!("ref: {BRANCH}\n").as_bytes())?;
        Ok(Self { folder })
    }

    /// Replaces the branch by a commit with these files, which lie in the topmost folder and are
    /// sorted by name.
    pub fn push(&self, files: &[(&str, &[u8])]) -> Result<()> {
        let mut tree = Vec::new();
        for (name, bytes) in files {
            let id = self.add(Kind::Blob, bytes)?;
            tree.extend_from_slice(format!("100644 {name}\0").as_bytes());
            tree.extend_from_slice(id.as_slice());
        }
        let tree = self.add(Kind::Tree, &tree)?;
        let text = format!("tree {tree}\nauthor {AUTHOR}\ncommitter {AUTHOR}\n\npush\n");
        let commit = self.add(Kind::Commit, text.as_bytes())?;
        let lock = self.folder.join("main.lock");
        write(&lock, format!("{commit}\n").as_bytes())?;
        let branch = self.folder.join(BRANCH);
        fs::rename(&lock, &branch).with_context(|| format!("cannot replace {}", branch.display()))
    }

    /// Writes an object, unless it exists (gitformat-loose(5)).
    fn add(&self, kind: Kind, bytes: &[u8]) -> Result<ObjectId> {
        let id = gix_object::compute_hash(Hash::Sha1, kind, bytes).context("cannot hash")?;
        let name = id.to_string();
        let folder = self.folder.join("objects").join(&name[..2]);
        let path = folder.join(&name[2..]);
        if path.exists() {
            return Ok(id);
        }
        let context = || format!("cannot write {}", path.display());
        fs::create_dir_all(&folder).with_context(context)?;
        let mut out = ZlibEncoder::new(Vec::new(), Compression::fast());
        write!(out, "{kind} {}\0", bytes.len()).with_context(context)?;
        out.write_all(bytes).with_context(context)?;
        write(&path, &out.finish().with_context(context)?)?;
        Ok(id)
    }
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    fs::write(path, bytes).with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_branch_names_a_commit_whose_objects_exist() {
        let folder = tempfile::tempdir().unwrap();
        let repository = Repository::create(folder.path().join("site.git")).unwrap();
        repository.push(&[("a.txt", b"a"), ("index.html", b"one")]).unwrap();
        let first = fs::read_to_string(repository.folder.join(BRANCH)).unwrap();
        repository.push(&[("a.txt", b"a"), ("index.html", b"two")]).unwrap();
        let second = fs::read_to_string(repository.folder.join(BRANCH)).unwrap();
        assert_ne!(first, second);
        for id in [&first, &second] {
            let (folder, name) = id.trim().split_at(2);
            assert!(repository.folder.join("objects").join(folder).join(name).exists());
        }
        // Git's own name of a blob with the text "a".
        let blob = "2e65efe2a145dda7ee51d1741299f848e5bf752e";
        assert!(repository.folder.join("objects/2e").join(&blob[2..]).exists());
    }
}
