//! The host's root: folders and links that PID 1 relies on, `rootfs/`, packages, kernel modules.

use std::sync::Arc;

use anyhow::Result;
use kiln_contract::{path, root, template};

use crate::config::{Config, Output};
use crate::digest::Digest;
use crate::tree::staged::Staged;
use crate::tree::{Content, Node, Tree};

/// The owner of the entries that every root has.
const LAYOUT: &str = "contract";

/// Returns the entries that every root has; they are part of the root's recipe.
pub fn layout() -> Vec<(String, Node)> {
    let folders = root::FOLDERS.iter().map(|folder| ((*folder).to_owned(), Node::Dir(0o755)));
    let links =
        root::LINKS.iter().map(|(link, to)| ((*link).to_owned(), Node::Link((*to).to_owned())));
    let applets = path::APPLETS.iter().map(|applet| {
        (format!("{}/{applet}", path::BIN), Node::Link(root::APPLET_TARGET.to_owned()))
    });
    folders.chain(links).chain(applets).collect()
}

/// Puts the root together. `rootfs` has the configuration's order; the last layer wins. `data` is
/// the file system for new data partitions, `build_id` the root's own name.
pub fn build(
    config: &Config,
    build_id: &str,
    kernel: &Staged,
    packages: &[Staged],
    rootfs: &[Staged],
    data: Content,
) -> Result<Tree> {
    let mut tree = Tree::default();
    for (path, node) in layout() {
        tree.add(&path, LAYOUT, node)?;
    }
    add_rootfs(&mut tree, rootfs)?;
    let release =
        Node::File(0o644, Content::Bytes(Arc::from(os_release(config, build_id).as_bytes())));
    tree.add("/usr/lib/os-release", "builder", release)?;
    tree.add(template::FILE, "builder", Node::File(0o644, data))?;
    for (from, to) in [("boot", "/boot"), ("lib/modules", path::MODULES)] {
        for (below, node) in kernel.below(from)? {
            tree.add(&format!("{to}{below}"), &kernel.owner, node.clone())?;
        }
    }
    for package in packages {
        add_package(&mut tree, config, package)?;
    }
    Ok(tree)
}

fn add_rootfs(tree: &mut Tree, layers: &[Staged]) -> Result<()> {
    for (index, layer) in layers.iter().enumerate() {
        let nearer = &layers[index + 1..];
        for (name, node) in &layer.files {
            if !nearer.iter().any(|layer| layer.files.contains_key(name)) {
                tree.add(&format!("/{name}"), &layer.owner, node.clone())?;
            }
        }
    }
    Ok(())
}

fn add_package(tree: &mut Tree, config: &Config, staged: &Staged) -> Result<()> {
    let Output::Rootfs(files) = &config.package(&staged.owner).output else { return Ok(()) };
    for (from, to) in files {
        for (below, node) in staged.below(from)? {
            tree.add(&format!("{to}{below}"), &staged.owner, node.clone())?;
        }
    }
    Ok(())
}

/// Returns the `BUILD_ID` of a root from the digest of all that goes into it. Equal inputs have equal
/// ids, on any machine.
pub fn build_id(digest: &Digest) -> String {
    digest.to_string().chars().take(16).collect()
}

/// Returns the text of `os-release(5)`; kubelet reports `PRETTY_NAME` as the node's OS image.
pub fn os_release(config: &Config, build_id: &str) -> String {
    let version = env!("CARGO_PKG_VERSION");
    format!(
        "NAME=Kiln\nID=kiln\nVERSION_ID={version}\nPRETTY_NAME=\"Kiln {version}\"\nIMAGE_ID={name}\nIMAGE_VERSION={version}\nBUILD_ID={build_id}\n",
        name = config.name
    )
}

/// Returns the regular files with an x bit, which the budget counts.
pub fn executables(tree: &Tree) -> Vec<&str> {
    let files = tree
        .iter()
        .filter(|(_, entry)| matches!(entry.node, Node::File(mode, _) if mode & 0o111 != 0));
    files.map(|(path, _)| path.as_str()).collect()
}
