//! The initramfs archive: PID 1, the modules it loads first, the two erofs files.

use anyhow::Result;
use kiln_contract::archive;

use crate::tree::staged::Staged;
use crate::tree::{Content, Node, Tree};

/// Assembles the archive.
pub fn build(init: &Staged, kernel: &Staged, root: Content, pods: Content) -> Result<Tree> {
    let mut tree = Tree::default();
    tree.add(archive::INIT, &init.owner, init.get("init")?.clone())?;
    for (below, node) in kernel.below("early")? {
        tree.add(&format!("{}{below}", archive::MODULES), &kernel.owner, node.clone())?;
    }
    tree.add(archive::ROOT, "root", Node::File(0o444, root))?;
    tree.add(archive::PODS, "pods", Node::File(0o444, pods))?;
    Ok(tree)
}
