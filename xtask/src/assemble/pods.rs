//! The pods' erofs: one OCI layout with every image, and the static pods' manifests.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use anyhow::{Context, Result};
use kiln_contract::path;

use crate::config::Config;
use crate::image::oci;
use crate::tree::staged::Staged;
use crate::tree::{Content, Node, Tree};

/// The files that a package's image is made of.
#[derive(Debug)]
pub struct Files {
    /// The files that its step staged.
    pub staged: Staged,
    /// The files in its folder.
    pub folder: Staged,
    /// The unpacked Debian packages that the image starts with, if it has a base.
    pub base: Staged,
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

/// Converts a path of the running system to a path in this file system, which is mounted at
/// [`path::PODS`].
fn below_pods(folder: &str) -> &str {
    folder.strip_prefix(path::PODS).unwrap_or(folder)
}

/// Returns a package's container image.
pub fn image(config: &Config, from: &Files) -> Result<oci::Image> {
    let name = &from.staged.owner;
    let image = config.package(name).image();
    let image = image.with_context(|| format!("package `{name}` has no [output.image]"))?;
    let mut own = Vec::new();
    for (from_path, to) in &image.files {
        let found = from.staged.below(from_path).or_else(|_| from.folder.below(from_path))?;
        own.extend(found.into_iter().map(|(below, node)| (format!("{to}{below}"), node)));
    }
    for (folder, to) in &image.packs {
        own.push((to.clone(), from.packs.get(folder)?));
    }
    let mut files = Tree::default();
    for (path, mode) in &image.folders {
        files.add(path, name, Node::Dir(*mode))?;
    }
    // A file of the package itself replaces the base's, such as a configuration file.
    let replaced: BTreeSet<&str> = own.iter().map(|(path, _)| path.as_str()).collect();
    for (path, node) in &from.base.files {
        let path = format!("/{path}");
        if !replaced.contains(path.as_str()) {
            files.add(&path, name, node.clone())?;
        }
    }
    for (path, node) in &own {
        files.add(path, name, (*node).clone())?;
    }
    Ok(oci::Image {
        name: image.name.clone(),
        owner: name.clone(),
        files,
        entrypoint: image.entrypoint.clone(),
        user: image.user.clone(),
        env: Vec::new(),
        labels: BTreeMap::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::sample;

    fn staged(files: &[(&str, &str)]) -> Staged {
        let node = |text: &str| Node::File(0o755, Content::Bytes(Arc::from(text.as_bytes())));
        let files = files.iter().map(|(path, text)| ((*path).to_owned(), node(text))).collect();
        Staged { owner: "page".to_owned(), files }
    }

    #[test]
    fn folders_are_empty_and_own_files_replace_those_of_the_base() {
        let config = sample(
            "/r/pkgs/page/pkg.toml",
            "user = \"1:1\"",
            "user = \"1:1\"\nbase = \"kmod\"\nfolders = { \"/tmp\" = \"1777\" }",
        );
        let from = Files {
            staged: staged(&[("page", "ours")]),
            folder: Staged::default(),
            base: staged(&[("page", "theirs"), ("usr/lib/libc.so.6", "libc")]),
            packs: Staged::default(),
        };
        let image = image(&config, &from).unwrap();
        let node = |path: &str| image.files.get(path).unwrap().node.clone();
        assert_eq!(node("/tmp"), Node::Dir(0o1777));
        assert_eq!(node("/page"), Node::File(0o755, Content::Bytes(Arc::from(&b"ours"[..]))));
        assert!(matches!(node("/usr/lib/libc.so.6"), Node::File(0o755, _)));
        assert_eq!((image.name.as_str(), image.owner.as_str()), ("kiln.local/page:latest", "page"));
    }
}
