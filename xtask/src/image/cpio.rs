//! The initramfs archive: cpio in the "newc" form.
//!
//! Format: the kernel's `Documentation/driver-api/early-userspace/buffer-format.rst`, read by its
//! `init/initramfs.c`. Inode numbers count up from 1, times and owners are 0.

use std::collections::BTreeMap;
use std::io::Write;

use anyhow::{Context, Result, ensure};

use super::{copy, pad};
use crate::tree::{Node, Tree, TreePath};

/// Headers, names and data start at multiples of this.
const ALIGN: u64 = 4;

/// The archive's end is filled up to this, cpio(1)'s block size.
const BLOCK: u64 = 512;

/// Name of the entry that ends an archive.
const TRAILER: &str = "TRAILER!!!";

/// `PATH_MAX` of the kernel: it skips an entry with a longer name, and a link with a longer target.
const PATH_MAX: usize = 4096;

const TYPE_DIR: u32 = 0o040_000;
const TYPE_FILE: u32 = 0o100_000;
const TYPE_LINK: u32 = 0o120_000;

/// What a header says of an entry; all other fields are constant.
struct Header<'a> {
    name: &'a str,
    inode: u32,
    mode: u32,
    links: u32,
    size: u32,
}

/// Writes the tree as an archive and returns its length in bytes.
pub fn write(tree: &Tree, out: &mut impl Write) -> Result<u64> {
    let subfolders = subfolders(tree);
    let mut out = Counted { out, count: 0 };
    for (number, (path, entry)) in (1..).zip(tree.iter()) {
        let inside = subfolders.get(path).copied().unwrap_or(0);
        write_entry(&mut out, number, path, &entry.node, inside)
            .with_context(|| format!("cannot write {path} to the initramfs archive"))?;
    }
    write_header(&mut out, &Header { name: TRAILER, inode: 0, mode: 0, links: 1, size: 0 })?;
    out.align(BLOCK)?;
    Ok(out.count)
}

fn write_entry<W: Write>(
    out: &mut Counted<'_, W>,
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
    write_header(out, &Header { name, inode, mode, links, size })?;
    match node {
        Node::Dir(_) => {}
        Node::File(_, content) => copy(content, out)?,
        Node::Link(target) => {
            ensure!(target.len() < PATH_MAX, "its target is longer than {PATH_MAX} bytes");
            out.write_all(target.as_bytes())?;
        }
    }
    out.align(ALIGN)
}

/// Folders directly in each folder: every one adds a link (its `..`) to its parent.
fn subfolders(tree: &Tree) -> BTreeMap<TreePath, u32> {
    let mut counts = BTreeMap::new();
    for (path, entry) in tree.iter() {
        if let (Node::Dir(_), Some(parent)) = (&entry.node, path.parent()) {
            *counts.entry(parent).or_insert(0) += 1;
        }
    }
    counts
}

/// Thirteen numbers of eight hexadecimal digits after the magic, then the name with its NUL.
fn write_header<W: Write>(out: &mut Counted<'_, W>, header: &Header<'_>) -> Result<()> {
    let name_size = u32::try_from(header.name.len() + 1)?;
    let fields = [
        header.inode,
        header.mode,
        0, // uid
        0, // gid
        header.links,
        0, // mtime
        header.size,
        0, // device, major
        0, // device, minor
        0, // special file's device, major
        0, // special file's device, minor
        name_size,
        0, // checksum, of the "crc" form only
    ];
    out.write_all(b"070701")?;
    for field in fields {
        write!(out, "{field:08X}")?;
    }
    write!(out, "{}\0", header.name)?;
    out.align(ALIGN)
}

/// Counts what was written, for alignment.
struct Counted<'a, W> {
    out: &'a mut W,
    count: u64,
}

impl<W: Write> Counted<'_, W> {
    fn align(&mut self, to: u64) -> Result<()> {
        let at = self.count;
        pad(self, at, to)
    }
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
