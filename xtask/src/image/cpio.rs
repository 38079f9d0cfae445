//! The initramfs archive: cpio in the "newc" form, written by the crate `cpio`.
//!
//! Format: the kernel's `Documentation/driver-api/early-userspace/buffer-format.rst`, read by its
//! `init/initramfs.c`. The crate casts lengths to 32 bits and takes every other number from its
//! caller, so the lengths are checked here: inodes count from 1, times and owners are 0.

use std::collections::BTreeMap;
use std::io::Write;

use ::cpio::newc;
use anyhow::{Context, Result, ensure};

use super::{copy, pad};
use crate::tree::{Node, Tree, TreePath};

/// The archive is padded to a multiple of this, the block size of cpio(1).
const BLOCK: u64 = 512;

/// The name of the entry that ends an archive.
const TRAILER: &str = "TRAILER!!!";

/// `PATH_MAX` of the kernel: it skips an entry with a longer name, and a link with a longer target.
const PATH_MAX: usize = 4096;

const TYPE_DIR: u32 = 0o040_000;
const TYPE_FILE: u32 = 0o100_000;
const TYPE_LINK: u32 = 0o120_000;

/// Writes the tree as an archive and returns its length in bytes.
pub fn write(tree: &Tree, out: &mut impl Write) -> Result<u64> {
    let subfolders = subfolders(tree);
    let mut out = Counted { out, count: 0 };
    for (inode, (path, entry)) in (1..).zip(tree.iter()) {
        let inside = subfolders.get(path).copied().unwrap_or(0);
        write_entry(&mut out, inode, path, &entry.node, inside)
            .with_context(|| format!("cannot write {path} to the initramfs archive"))?;
    }
    let out = newc::trailer(&mut out).context("cannot finish the initramfs archive")?;
    let written = out.count;
    pad(out, written, BLOCK)?;
    Ok(out.count)
}

fn write_entry(
    out: &mut impl Write,
    inode: u32,
    path: &TreePath,
    node: &Node,
    subfolders: u32,
) -> Result<()> {
    let name = path.relative();
    ensure!(name.len() < PATH_MAX, "its path is longer than {PATH_MAX} bytes");
    ensure!(name != TRAILER, "this name ends the archive");
    let (mode, links, size) = match node {
        Node::Dir(mode) => (TYPE_DIR | u32::from(*mode), 2 + subfolders, 0),
        Node::File(mode, content) => (TYPE_FILE | u32::from(*mode), 1, content.len()),
        Node::Link(target) => (TYPE_LINK | 0o777, 1, target.len() as u64),
    };
    let size = u32::try_from(size).context("the format takes no file of 4 GiB or more")?;
    let header = newc::Builder::new(name).ino(inode).mode(mode).nlink(links);
    let mut entry = header.uid(0).gid(0).mtime(0).write(out, size);
    match node {
        Node::Dir(_) => {}
        Node::File(_, content) => copy(content, &mut entry)?,
        Node::Link(target) => {
            ensure!(target.len() < PATH_MAX, "its target is longer than {PATH_MAX} bytes");
            entry.write_all(target.as_bytes())?;
        }
    }
    entry.finish()?;
    Ok(())
}

/// Counts the folders directly in each folder: each adds a link (its `..`) to its parent.
fn subfolders(tree: &Tree) -> BTreeMap<TreePath, u32> {
    let mut counts = BTreeMap::new();
    for (path, entry) in tree.iter() {
        if let (Node::Dir(_), Some(parent)) = (&entry.node, path.parent()) {
            *counts.entry(parent).or_insert(0) += 1;
        }
    }
    counts
}

/// Counts the bytes that are written, for the length of the archive.
struct Counted<'a, W> {
    out: &'a mut W,
    count: u64,
}

impl<W: Write> Write for Counted<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.count += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests;
