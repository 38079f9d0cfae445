//! A compressed, read-only file system, made by `mkfs.erofs`.
//!
//! Format: the kernel's `Documentation/filesystems/erofs.rst`. mkfs.erofs reads the tree as a tar
//! file, so that owners, modes and times are under control and the whole root need not be written
//! to a folder. UUID and times are fixed, there are no extended attributes, and the number of
//! worker threads does not change the bytes.
//!
//! `-Eall-fragments` is not offered, because mkfs.erofs 1.8.6 silently writes wrong data with it if
//! the source is a tar file. [`read_back`] would notice.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::Reader;
use super::tar::{self, ROOT_MODE};
use crate::config::erofs::{Compression, Settings};
use crate::host::HostTool;
use crate::tree::{Node, Tree};

/// The UUID of all images, because nothing looks for a Kiln root by its UUID.
const UUID: &str = "00000000-0000-0000-0000-000000000000";

/// The bytes of two files that are compared at a time.
const CHUNK: usize = 256 * 1024;

/// The block size, which suits every kernel page size that Kiln boots on.
const BLOCK_SIZE: u32 = 4096;

/// Writes the tree to `out`, a new file. `scratch` is a folder for temporary files. The files in
/// `modules` get the compression for modules, unless the image is not compressed.
///
/// All times in the image are 0.
pub fn write(
    mkfs: &HostTool,
    tree: &Tree,
    settings: Settings,
    modules: &[String],
    out: &Path,
    scratch: &Path,
) -> Result<()> {
    let archive = scratch.join("erofs-source.tar");
    write_tar(tree, &archive).with_context(|| format!("cannot write {}", archive.display()))?;
    // mkfs.erofs keeps file data in a temporary file.
    let mut command = mkfs.command()?.env("TMPDIR", scratch).args(arguments(settings, modules));
    if !modules.is_empty() && settings.compression != Compression::None {
        let file = scratch.join("erofs-hints");
        fs::write(&file, hints(settings, modules))
            .with_context(|| format!("cannot write {}", file.display()))?;
        command = command.arg(format!("--compress-hints={}", file.display()));
    }
    command.arg(out).arg(&archive).output().context("cannot make an erofs image")?;
    fs::remove_file(&archive).with_context(|| format!("cannot remove {}", archive.display()))
}

/// Unpacks an image with `fsck.erofs` below `scratch` and compares every file with the tree.
///
/// erofs has no checksums over data, so a wrong image would only show as a crash on a node.
pub fn read_back(fsck: &HostTool, tree: &Tree, image: &Path, scratch: &Path) -> Result<()> {
    let folder =
        tempfile::tempdir_in(scratch).context("cannot create a folder to unpack an erofs image")?;
    let extract = format!("--extract={}", folder.path().display());
    let options = ["--no-preserve-owner", "--preserve-perms"];
    fsck.command()?
        .arg(extract)
        .args(options)
        .arg(image)
        .output()
        .context("cannot unpack the erofs image")?;
    compare(&Node::Dir(ROOT_MODE), folder.path()).context("mkfs.erofs has written / wrongly")?;
    for (path, entry) in tree.iter() {
        let is = folder.path().join(path.relative());
        compare(&entry.node, &is)
            .with_context(|| format!("mkfs.erofs has written {path} wrongly"))?;
    }
    Ok(())
}

/// Returns the compressed bytes of a file in an image, as `dump.erofs` reports them.
pub fn stored(dump: &HostTool, image: &Path, path: &str) -> Result<u64> {
    let text = dump.command()?.arg(format!("--path={path}")).arg(image).read()?;
    on_disk(&text).with_context(|| format!("dump.erofs reports no on-disk size of {path}"))
}

/// `Size: 60133502  On-disk size: 23031808  regular file`
fn on_disk(text: &str) -> Option<u64> {
    let (_, rest) = text.split_once("On-disk size:")?;
    rest.split_whitespace().next()?.parse().ok()
}

fn compare(node: &Node, path: &Path) -> Result<()> {
    let meta = fs::symlink_metadata(path)?;
    let mode = |wanted: u16| {
        let is = meta.permissions().mode() & 0o7777;
        ensure!(is == u32::from(wanted), "its mode is {is:o}, not {wanted:o}");
        Ok(())
    };
    match node {
        Node::Dir(wanted) => {
            ensure!(meta.is_dir(), "it is not a folder");
            mode(*wanted)
        }
        Node::File(wanted, content) => {
            ensure!(meta.is_file(), "it is not a regular file");
            ensure!(equal(Reader::open(content)?, File::open(path)?)?, "its content differs");
            mode(*wanted)
        }
        Node::Link(target) => {
            ensure!(fs::read_link(path)? == Path::new(target), "it is not a link to {target}");
            Ok(())
        }
    }
}

fn equal(wanted: impl Read, is: impl Read) -> Result<bool> {
    let (mut wanted, mut is) =
        (BufReader::with_capacity(CHUNK, wanted), BufReader::with_capacity(CHUNK, is));
    loop {
        let (left, right) = (wanted.fill_buf()?, is.fill_buf()?);
        let length = left.len().min(right.len());
        if length == 0 {
            return Ok(left.is_empty() && right.is_empty());
        }
        if left[..length] != right[..length] {
            return Ok(false);
        }
        wanted.consume(length);
        is.consume(length);
    }
}

fn write_tar(tree: &Tree, path: &Path) -> Result<()> {
    let mut out = BufWriter::new(File::create_new(path)?);
    tar::write_with_root(tree, 0, &mut out)?;
    Ok(out.flush()?)
}

fn arguments(settings: Settings, modules: &[String]) -> Vec<String> {
    let mut arguments: Vec<String> =
        ["--quiet", "--tar=f", "--all-root", "-x-1", "-T0", "-U", UUID].map(Into::into).into();
    arguments.push(format!("-b{BLOCK_SIZE}"));
    if settings.compression == Compression::None {
        return arguments;
    }
    let second = if modules.is_empty() { String::new() } else { format!(":{}", settings.modules) };
    // The last, partly filled block of a file is stored next to its inode.
    arguments.push("-Eztailpacking".to_owned());
    arguments
        .extend([format!("-z{}{second}", settings.compression), format!("-C{}", settings.cluster)]);
    arguments
}

/// Returns the file that gives these paths the second algorithm: lines of a cluster size, the
/// number of the algorithm and an extended regular expression.
fn hints(settings: Settings, paths: &[String]) -> String {
    let line = |path: &String| {
        let escaped: String = path
            .chars()
            .map(|c| {
                if c.is_alphanumeric() || "/_-".contains(c) {
                    c.to_string()
                } else {
                    format!("[{c}]")
                }
            })
            .collect();
        format!("{} 1 {}$\n", settings.cluster, escaped.trim_start_matches('/'))
    };
    paths.iter().map(line).collect()
}

#[cfg(test)]
mod tests;
