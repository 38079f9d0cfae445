//! Files that a step has staged, or that lie in a folder of the repository: names and sizes, no bytes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};

use super::{Content, Node};
use crate::walk::{self, Kind};

/// A folder's files, by their path relative to it.
#[derive(Debug, Clone, Default)]
pub struct Staged {
    /// Who to name as their owner.
    pub owner: String,
    /// Relative path → node.
    pub files: BTreeMap<String, Node>,
}

impl Staged {
    /// Lists a folder. Modes are 0755 for what is executable and 0644 for the rest.
    pub fn list(owner: &str, dir: &Path) -> Result<Self> {
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
        Ok(Self { owner: owner.to_owned(), files })
    }

    /// One file that must be there.
    pub fn get(&self, name: &str) -> Result<&Node> {
        self.files.get(name.trim_start_matches('/')).ok_or_else(|| {
            let known: Vec<&str> = self.files.keys().take(8).map(String::as_str).collect();
            anyhow!("`{}` has no file `{name}`; it has {}", self.owner, known.join(", "))
        })
    }

    /// A file, or all files of a folder with their paths below it.
    pub fn below(&self, name: &str) -> Result<Vec<(String, &Node)>> {
        if let Some(node) = self.files.get(name.trim_start_matches('/')) {
            return Ok(vec![(String::new(), node)]);
        }
        let prefix = format!("{}/", name.trim_matches('/'));
        let below = self.files.iter().filter_map(|(path, node)| {
            path.strip_prefix(&prefix).map(|rest| (format!("/{rest}"), node))
        });
        let below: Vec<_> = below.collect();
        if below.is_empty() {
            self.get(name).map(|node| vec![(String::new(), node)])
        } else {
            Ok(below)
        }
    }
}

/// A file of the cache or the repository as a tree's content.
pub fn cached(path: PathBuf) -> Result<Content> {
    let size = path.metadata().with_context(|| format!("cannot read {}", path.display()))?.len();
    Ok(Content::Cached { path, size })
}

fn utf8(path: &Path) -> Result<&str> {
    path.to_str()
        .ok_or_else(|| anyhow!("{}: a file name in an image must be UTF-8", path.display()))
}
