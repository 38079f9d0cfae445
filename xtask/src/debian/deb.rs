//! Unpacks `.deb` files: an `ar` archive (`deb(5)`) whose member `data.tar.xz` has the files.
//!
//! Maintainer scripts are ignored, so nothing from a package runs. Owners and set-id bits are
//! dropped, and device nodes and paths that leave the folder are refused. Files below `/bin`,
//! `/sbin`, `/lib` and `/lib64` go below `/usr`, where Debian itself has merged them since its
//! release 12.

use std::fs::{self, File};
use std::io::{BufReader, Read};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use anyhow::{Context, Result, bail, ensure};

use crate::unpack::{self, Unpacker};

/// Folders that a program with its dependencies does not need.
const NOT_NEEDED: [&str; 7] = [
    "/usr/share/doc/",
    "/usr/share/man/",
    "/usr/share/info/",
    "/usr/share/locale/",
    "/usr/share/lintian/",
    "/usr/share/bug/",
    "/usr/share/doc-base/",
];

/// Folders at the top that are links into `usr` in a merged Debian.
const MERGED: [&str; 4] = ["bin", "sbin", "lib", "lib64"];

/// Unpacks the files that `filter` accepts, by paths such as `/usr/bin/qemu-img`, into an existing
/// folder.
pub fn unpack(deb: &Path, into: &Path, filter: impl Fn(&str) -> bool) -> Result<()> {
    let context = || format!("cannot unpack {}", deb.display());
    let file = File::open(deb).with_context(context)?;
    unpack_from(BufReader::with_capacity(1 << 16, file), into, &filter).with_context(context)
}

/// Unpacks a package with all its dependencies, so that its programs run out of this folder.
///
/// Documentation and translations are left out, and files and folders with a name in `without`.
pub fn sysroot(debs: &[PathBuf], without: &[String], into: &Path) -> Result<()> {
    let queue = Mutex::new(largest_last(debs)?);
    let next = || queue.lock().ok()?.pop();
    let work = || {
        while let Some(deb) = next() {
            unpack(&deb, into, |path| is_wanted(path, without))?;
        }
        Ok(())
    };
    let workers =
        std::thread::available_parallelism().map_or(1, usize::from).min(debs.len().max(1));
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        let joined = threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|_| bail!("a thread panicked")));
        joined.collect::<Vec<Result<()>>>().into_iter().collect::<Result<()>>()
    })?;
    link_merged(into)
}

fn is_wanted(path: &str, without: &[String]) -> bool {
    !NOT_NEEDED.iter().any(|prefix| path.starts_with(prefix))
        && !path.split('/').any(|part| without.iter().any(|name| name == part))
}

/// Sorts the packages so that threads take the largest first instead of leaving it for last.
fn largest_last(debs: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let sized = debs.iter().map(|deb| {
        let size =
            fs::metadata(deb).with_context(|| format!("cannot read {}", deb.display()))?.len();
        Ok((size, deb.clone()))
    });
    let mut sized = sized.collect::<Result<Vec<_>>>()?;
    sized.sort();
    Ok(sized.into_iter().map(|(_, deb)| deb).collect())
}

/// Makes links, so that `/lib64/ld-linux-x86-64.so.2` and the like are found by their usual names.
fn link_merged(into: &Path) -> Result<()> {
    for name in MERGED {
        if into.join("usr").join(name).is_dir() {
            let link = into.join(name);
            symlink(format!("usr/{name}"), &link)
                .with_context(|| format!("cannot create {}", link.display()))?;
        }
    }
    Ok(())
}

fn unpack_from(deb: impl Read, into: &Path, filter: &dyn Fn(&str) -> bool) -> Result<()> {
    let mut members = ar::Archive::new(deb);
    let mut format = None;
    while let Some(member) = members.next_entry() {
        let mut member = member.context("it is not an ar archive")?;
        let name =
            String::from_utf8_lossy(member.header().identifier()).trim_end_matches('/').to_owned();
        match name.as_str() {
            "debian-binary" => {
                let mut text = String::new();
                member
                    .take(16)
                    .read_to_string(&mut text)
                    .context("its format version cannot be read")?;
                ensure!(
                    text.starts_with("2."),
                    "its format version is `{}`, expected 2.0",
                    text.trim()
                );
                format = Some(text);
            }
            _ if format.is_none() => bail!("it is not a Debian package: it starts with `{name}`"),
            "data.tar.xz" => {
                return unpacker(into, filter).run(unpack::xz(BufReader::new(&mut member))?);
            }
            "data.tar" => return unpacker(into, filter).run(member),
            _ if name.starts_with("data.tar") => {
                bail!("`{name}` has an unknown compression")
            }
            _ => {}
        }
    }
    bail!("it is not a Debian package: it has no data.tar.xz")
}

fn unpacker<'a>(into: &'a Path, filter: &'a dyn Fn(&str) -> bool) -> Unpacker<'a> {
    Unpacker::new(into, &merged, filter)
}

/// Returns the place of an archive's path, relative to the folder; nothing for the root and the
/// merged links.
fn merged(name: &str) -> Result<Option<String>> {
    let segments = unpack::segments(name)?;
    Ok(match segments.as_slice() {
        [] => None,
        [top] if MERGED.contains(top) => None,
        [top, ..] if MERGED.contains(top) => Some(format!("usr/{}", segments.join("/"))),
        _ => Some(segments.join("/")),
    })
}

#[cfg(test)]
mod tests;
