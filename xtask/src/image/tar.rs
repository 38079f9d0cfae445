//! A tree as a tar stream, which mkfs.erofs reads and an OCI layer is.
//!
//! Format: POSIX ustar, with GNU's entries for long paths. The owner is 0, there are no user names,
//! all entries have one time and follow path order, so equal trees give equal bytes.

use std::io::{self, Write};

use anyhow::{Context, Result};
use tar::{Builder, EntryType, Header};

use super::Reader;
use crate::process::check_interrupt;
use crate::tree::{Entry, Node, Tree, TreePath};

/// The permission bits of the root folder.
pub(super) const ROOT_MODE: u16 = 0o755;

/// Like [`write`], with an entry `./` for the root itself; without one mkfs.erofs lets every user
/// write to the root.
pub(super) fn write_with_root(tree: &Tree, time: u64, mut out: impl Write) -> Result<()> {
    let mut root = header(EntryType::Directory, ROOT_MODE, 0, time);
    // The crate refuses to set this path.
    root.as_old_mut().name[..2].copy_from_slice(b"./");
    root.set_cksum();
    out.write_all(root.as_bytes())?;
    write(tree, time, out)
}

/// Writes the tree; `time` is every entry's modification time, in seconds since 1970.
pub(super) fn write(tree: &Tree, time: u64, out: impl Write) -> Result<()> {
    let mut builder = Builder::new(out);
    for (path, entry) in tree.iter() {
        append(&mut builder, path, entry, time)
            .with_context(|| format!("cannot write {path} to a tar archive"))?;
    }
    Ok(builder.into_inner()?.flush()?)
}

fn append(
    builder: &mut Builder<impl Write>,
    path: &TreePath,
    entry: &Entry,
    time: u64,
) -> Result<()> {
    check_interrupt()?;
    let name = path.relative();
    match &entry.node {
        Node::Dir(mode) => {
            let mut header = header(EntryType::Directory, *mode, 0, time);
            builder.append_data(&mut header, format!("{name}/"), io::empty())?;
        }
        Node::File(mode, content) => {
            let mut header = header(EntryType::Regular, *mode, content.len(), time);
            builder.append_data(&mut header, name, Reader::open(content)?)?;
        }
        Node::Link(target) => append_link(builder, name, target, time)?,
    }
    Ok(())
}

/// Writes a short target into the header unchanged, because the crate's own call would normalise
/// it.
fn append_link(
    builder: &mut Builder<impl Write>,
    name: &str,
    target: &str,
    time: u64,
) -> Result<()> {
    let mut header = header(EntryType::Symlink, 0o777, 0, time);
    if target.len() > header.as_old().linkname.len() {
        builder.append_link(&mut header, name, target)?;
    } else {
        header.set_link_name_literal(target)?;
        builder.append_data(&mut header, name, io::empty())?;
    }
    Ok(())
}

fn header(kind: EntryType, mode: u16, size: u64, time: u64) -> Header {
    let mut header = Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(u32::from(mode));
    header.set_uid(0);
    header.set_gid(0);
    header.set_size(size);
    header.set_mtime(time);
    header
}
