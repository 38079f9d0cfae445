//! The node's images, compared with those baked into the file that it booted.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use kiln_contract::path;

use crate::node::{self, ROOT};

/// containerd's content store.
const STORE: &str = "var/lib/containerd/io.containerd.content.v1.content/blobs/sha256";

/// containerd's overlay snapshots.
const SNAPSHOTS: &str = "var/lib/containerd/io.containerd.snapshotter.v1.overlayfs/snapshots";

/// Lists `foreign DIGEST` for each stored blob that the file does not contain, then the counts.
pub(crate) fn list() -> Result<String> {
    let root = Path::new(ROOT);
    let baked = names(&root.join(path::IMAGES.trim_start_matches('/')).join("blobs/sha256"))?;
    let stored = names(&root.join(STORE))?;
    let mut lines: Vec<String> =
        stored.difference(&baked).map(|name| format!("foreign {name}")).collect();
    lines.push(format!("baked {}", baked.len()));
    lines.push(format!("stored {}", stored.len()));
    lines.push(format!("snapshots {}", names(&root.join(SNAPSHOTS))?.len()));
    Ok(node::text(&lines))
}

/// Returns the names in a folder; a missing folder is empty.
fn names(dir: &Path) -> Result<BTreeSet<String>> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", dir.display())),
    };
    entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
}
