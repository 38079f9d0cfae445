//! Unpacks `.deb` files: an `ar` archive (`deb(5)`) whose member `data.tar.xz` has the files.
//!
//! Maintainer scripts are never looked at, so nothing of a package runs. Owners are dropped, set-id
//! bits too; device nodes and paths that leave the folder are refused. Files below `/bin`, `/sbin`,
//! `/lib` and `/lib64` go below `/usr`, where Debian itself has merged them since its release 12.

use std::collections::HashSet;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, BufReader, ErrorKind, Read};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use anyhow::{Context, Result, anyhow, bail, ensure};
use liblzma::read::XzDecoder;
use tar::{Entry, EntryType};

use crate::process;

/// What the folder of a program with its dependencies can do without.
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

/// The `xz` decoder refuses what would need more memory; Debian's packages need 65 MiB at most.
const MEMORY: u64 = 256 << 20;

/// Unpacks what `filter` takes, by paths such as `/usr/bin/qemu-img`, into an existing folder.
pub fn unpack(deb: &Path, into: &Path, filter: impl Fn(&str) -> bool) -> Result<()> {
    let context = || format!("cannot unpack {}", deb.display());
    let file = File::open(deb).with_context(context)?;
    unpack_from(BufReader::with_capacity(1 << 16, file), into, &filter).with_context(context)
}

/// Unpacks a package with all its dependencies, so that its programs run out of this folder.
///
/// Documentation and translations are left out.
pub fn sysroot(debs: &[PathBuf], into: &Path) -> Result<()> {
    let queue = Mutex::new(largest_last(debs)?);
    let next = || queue.lock().ok()?.pop();
    let work = || {
        while let Some(deb) = next() {
            unpack(&deb, into, |path| !NOT_NEEDED.iter().any(|prefix| path.starts_with(prefix)))?;
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

/// The contents of an `.xz` file, such as a kernel module.
pub fn unxz(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut plain = Vec::new();
    decoder(bytes)?.read_to_end(&mut plain).context("cannot unpack xz data")?;
    Ok(plain)
}

fn decoder<R: Read>(reader: R) -> Result<XzDecoder<R>> {
    let stream = liblzma::stream::Stream::new_stream_decoder(MEMORY, liblzma::stream::CONCATENATED);
    Ok(XzDecoder::new_stream(reader, stream.context("cannot start the xz decoder")?))
}

/// The largest is taken first, so that no thread is left alone with it at the end.
fn largest_last(debs: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let sized = debs.iter().map(|deb| {
        let size =
            fs::metadata(deb).with_context(|| format!("cannot look at {}", deb.display()))?.len();
        Ok((size, deb.clone()))
    });
    let mut sized = sized.collect::<Result<Vec<_>>>()?;
    sized.sort();
    Ok(sized.into_iter().map(|(_, deb)| deb).collect())
}

/// `/lib64/ld-linux-x86-64.so.2` and its like are found by their usual names.
fn link_merged(into: &Path) -> Result<()> {
    for name in MERGED {
        if into.join("usr").join(name).is_dir() {
            let link = into.join(name);
            symlink(format!("usr/{name}"), &link)
                .with_context(|| format!("cannot make {}", link.display()))?;
        }
    }
    Ok(())
}

fn unpack_from(deb: impl Read, into: &Path, filter: &dyn Fn(&str) -> bool) -> Result<()> {
    let mut members = ar::Archive::new(deb);
    let mut format = None;
    while let Some(member) = members.next_entry() {
        let mut member = member.context("it is no ar archive")?;
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
            _ if format.is_none() => bail!("it is no Debian package: it starts with `{name}`"),
            "data.tar.xz" => {
                return Unpacker::new(into, filter).run(decoder(BufReader::new(&mut member))?);
            }
            "data.tar" => return Unpacker::new(into, filter).run(member),
            _ if name.starts_with("data.tar") => {
                bail!("`{name}` is compressed in a way that is not known here")
            }
            _ => {}
        }
    }
    bail!("it is no Debian package: it has no data.tar.xz")
}

struct Unpacker<'a> {
    into: &'a Path,
    filter: &'a dyn Fn(&str) -> bool,
    /// Folders that are known to be there and to be no links.
    folders: HashSet<PathBuf>,
}

impl<'a> Unpacker<'a> {
    fn new(into: &'a Path, filter: &'a dyn Fn(&str) -> bool) -> Self {
        Self { into, filter, folders: HashSet::new() }
    }

    fn run(mut self, tar: impl Read) -> Result<()> {
        let mut archive = tar::Archive::new(tar);
        for entry in archive.entries().context("cannot read data.tar")? {
            process::check_interrupt()?;
            let mut entry = entry.context("cannot read data.tar")?;
            let name = String::from_utf8(entry.path_bytes().into_owned());
            let name = name.map_err(|error| anyhow!("a file name is not UTF-8: {error}"))?;
            self.place(&name, &mut entry).with_context(|| format!("at `{name}`"))?;
        }
        Ok(())
    }

    fn place(&mut self, name: &str, entry: &mut Entry<'_, impl Read>) -> Result<()> {
        let Some(path) = merged(name)? else { return Ok(()) };
        if !(self.filter)(&format!("/{path}")) {
            return Ok(());
        }
        let full = self.into.join(&path);
        let mode = entry.header().mode()? & 0o777;
        if entry.header().entry_type() == EntryType::Directory {
            self.folder(&full)?;
            return Ok(fs::set_permissions(&full, Permissions::from_mode(mode | 0o700))?);
        }
        self.folder(full.parent().unwrap_or(self.into))?;
        match entry.header().entry_type() {
            EntryType::Regular | EntryType::Continuous => write(&full, mode, entry),
            EntryType::Symlink => {
                symlink(link_target(entry)?, &full).map_err(|error| taken(&error, &full))
            }
            EntryType::Link => self.hard_link(&link_target(entry)?, &full),
            other => {
                bail!("it is neither file, folder nor link ({other:?}); such entries are refused")
            }
        }
    }

    fn hard_link(&mut self, target: &str, full: &Path) -> Result<()> {
        let target = merged(target)?.context("it is a hard link to a folder")?;
        ensure!(
            (self.filter)(&format!("/{target}")),
            "it is a hard link to /{target}, which was left out"
        );
        let target = self.into.join(target);
        // A link's target would be followed: only folders may be on the way to it.
        self.folder(target.parent().unwrap_or(self.into))?;
        fs::hard_link(&target, full).map_err(|error| taken(&error, full))
    }

    /// Makes a folder with its parents, none of which may be a link.
    fn folder(&mut self, dir: &Path) -> Result<()> {
        if dir == self.into || self.folders.contains(dir) {
            return Ok(());
        }
        let parent = dir.parent().context("it is outside of the folder")?;
        self.folder(parent)?;
        match DirBuilder::new().mode(0o755).create(dir) {
            Ok(()) => fs::set_permissions(dir, Permissions::from_mode(0o755))?,
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                let is_dir = fs::symlink_metadata(dir)?.is_dir();
                ensure!(is_dir, "{} is no folder", dir.display());
            }
            Err(error) => {
                return Err(error).with_context(|| format!("cannot make {}", dir.display()));
            }
        }
        self.folders.insert(dir.to_owned());
        Ok(())
    }
}

/// Where a path of the archive goes, relative to the folder; nothing for the root and for the merged links.
fn merged(name: &str) -> Result<Option<String>> {
    let segments: Vec<&str> =
        name.split('/').filter(|segment| !matches!(*segment, "" | ".")).collect();
    ensure!(!segments.contains(&".."), "it leaves the folder");
    ensure!(!name.contains('\0'), "its name has a NUL");
    Ok(match segments.as_slice() {
        [] => None,
        [top] if MERGED.contains(top) => None,
        [top, ..] if MERGED.contains(top) => Some(format!("usr/{}", segments.join("/"))),
        _ => Some(segments.join("/")),
    })
}

fn link_target(entry: &Entry<'_, impl Read>) -> Result<String> {
    let target = entry.link_name_bytes().context("it is a link without a target")?;
    String::from_utf8(target.into_owned()).context("its target is not UTF-8")
}

fn write(full: &Path, mode: u32, contents: &mut impl Read) -> Result<()> {
    // `create_new` never follows a link that lies there.
    let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(full);
    let mut file = file.map_err(|error| taken(&error, full))?;
    io::copy(contents, &mut file).with_context(|| format!("cannot write {}", full.display()))?;
    // Again, because the umask has its say in the first mode.
    file.set_permissions(Permissions::from_mode(mode))?;
    Ok(())
}

fn taken(error: &io::Error, full: &Path) -> anyhow::Error {
    if error.kind() == ErrorKind::AlreadyExists {
        return anyhow!("{} is there already; another package has it too", full.display());
    }
    anyhow!(io::Error::from(error.kind())).context(format!("cannot make {}", full.display()))
}

#[cfg(test)]
mod tests;
