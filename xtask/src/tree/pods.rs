//! The pods' erofs: one OCI layout with every image, and the static pods' manifests.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Result;
use kiln_contract::path;

use super::staged::Staged;
use super::{Content, Node, Tree};
use crate::config::{Config, Output, image_name};
use crate::image::oci;

/// What a package's image is made of.
#[derive(Debug)]
pub struct Files {
    /// What its step staged.
    pub staged: Staged,
    /// What lies in its folder.
    pub folder: Staged,
    /// Packs by the folder that each was made of.
    pub packs: Staged,
}

/// Puts images and manifests together.
pub fn build(config: &Config, packages: &[Files]) -> Result<Tree> {
    let mut images = Vec::new();
    for files in packages {
        images.push(image(config, files)?);
    }
    let platform = oci::Platform { architecture: config.arch.go(), created: config.date };
    let mut tree = Tree::default();
    tree.add("/images", "builder", Node::Dir(0o755))?;
    oci::layout(&images, platform)?.add_to(&mut tree, "/images")?;
    for folder in [path::BAKED_MANIFESTS, path::LATE_MANIFESTS] {
        tree.add(below_pods(folder), "builder", Node::Dir(0o755))?;
    }
    for pod in &config.pods {
        let folder = if pod.after_network { path::LATE_MANIFESTS } else { path::BAKED_MANIFESTS };
        let text = Content::Bytes(Arc::from(pod.text.as_bytes()));
        let file = format!("{}/{}.yaml", below_pods(folder), pod.name);
        tree.add(&file, &pod.name, Node::File(0o644, text))?;
    }
    Ok(tree)
}

/// A path of the running system as one of this file system, which is mounted at [`path::PODS`].
fn below_pods(folder: &str) -> &str {
    folder.strip_prefix(path::PODS).unwrap_or(folder)
}

/// The image that a package says it is.
pub fn image(config: &Config, from: &Files) -> Result<oci::Image> {
    let Files { staged, folder, packs: made } = from;
    let package = config.package(&staged.owner);
    let Output::Image { entrypoint, user, files, packs } = &package.output else {
        anyhow::bail!("package `{}` has no [output.image]", staged.owner);
    };
    let mut tree = Tree::default();
    for (from, to) in files {
        let found = staged.below(from).or_else(|_| folder.below(from))?;
        for (below, node) in found {
            tree.add(&format!("{to}{below}"), &staged.owner, node.clone())?;
        }
    }
    for (from, to) in packs {
        tree.add(to, &staged.owner, made.get(from)?.clone())?;
    }
    Ok(oci::Image {
        name: image_name(&staged.owner),
        files: tree,
        entrypoint: entrypoint.clone(),
        user: user.clone(),
        env: Vec::new(),
        labels: BTreeMap::new(),
    })
}
