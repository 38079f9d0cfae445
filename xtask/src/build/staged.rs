//! The disk as files of a tree: folders of staged files, and entries of the cache.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};

use crate::tree::staged::Staged;
use crate::tree::{Content, Node};
use crate::walk::{self, Kind};

/// Lists a folder. Modes are 0755 for executable files and 0644 for the rest.
pub fn list(owner: &str, dir: &Path) -> Result<Staged> {
    let mut files = BTreeMap::new();
    for found in walk::files(dir)? {
        let name = utf8(&found.path)?.to_owned();
        let node = match found.kind {
            Kind::Link(target) => Node::Link(utf8(&target)?.to_owned()),
            Kind::File { executable } => {
                let mode = if executable { 0o755 } else { 0o644 };
                Node::File(mode, cached(dir.join(&found.path))?)
            }
        };
        files.insert(name, node);
    }
    Ok(Staged { owner: owner.to_owned(), files })
}

/// Returns a file of the cache or the repository as the content of a tree's file.
pub fn cached(path: PathBuf) -> Result<Content> {
    let size = path.metadata().with_context(|| format!("cannot read {}", path.display()))?.len();
    Ok(Content::Cached { path, size })
}

fn utf8(path: &Path) -> Result<&str> {
    path.to_str()
        .ok_or_else(|| anyhow!("{}: a file name in an image must be UTF-8", path.display()))
}
