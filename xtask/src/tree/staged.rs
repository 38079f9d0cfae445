//! The files that a step has staged, or a folder of the repository: names and sizes, no bytes.

use std::collections::BTreeMap;

use anyhow::{Result, anyhow};

use super::Node;

/// A folder's files, by their path relative to it.
#[derive(Debug, Clone, Default)]
pub struct Staged {
    /// The owner to name in messages.
    pub owner: String,
    /// Relative path → node.
    pub files: BTreeMap<String, Node>,
}

impl Staged {
    /// Returns one file, which must exist.
    pub fn get(&self, name: &str) -> Result<&Node> {
        self.files.get(name.trim_start_matches('/')).ok_or_else(|| {
            let known: Vec<&str> = self.files.keys().take(8).map(String::as_str).collect();
            anyhow!("`{}` has no file `{name}`; it has {}", self.owner, known.join(", "))
        })
    }

    /// Returns a file, or all files of a folder with their paths below it.
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
