//! `kubectl apply -k`, as users install manifests: a copy of a folder, and a kustomization next to it
//! that sets what only this cluster knows.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::Cluster;
use crate::digest::Digest;

/// Copies the files of a folder without folders in it; files that the copy has in addition go.
pub fn copy(from: &Path, to: &Path) -> Result<()> {
    let context = || format!("cannot copy {} to {}", from.display(), to.display());
    if to.exists() {
        fs::remove_dir_all(to).with_context(context)?;
    }
    fs::create_dir_all(to).with_context(context)?;
    for entry in fs::read_dir(from).with_context(context)? {
        let entry = entry.with_context(context)?;
        fs::copy(entry.path(), to.join(entry.file_name())).with_context(context)?;
    }
    Ok(())
}

/// Pins an image to its digest.
pub fn image(name: &str, digest: &Digest) -> Value {
    let path = name.rsplit_once(':').map_or(name, |(path, _)| path);
    json!({ "name": path, "digest": format!("sha256:{digest}") })
}

/// Writes the kustomization into a folder and applies it.
pub fn apply(cluster: &Cluster, folder: &Path, kustomization: &Value) -> Result<()> {
    let path = folder.join("kustomization.yaml");
    // JSON is valid YAML.
    fs::write(&path, format!("{kustomization:#}\n"))
        .with_context(|| format!("cannot write {}", path.display()))?;
    let apply = cluster.kubectl().args(["apply", "--server-side", "-k"]).arg(folder);
    apply.output().map(drop)
}
