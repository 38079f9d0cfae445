//! Archives from outside → files below a folder.
//!
//! Nothing in an archive is trusted: owners and set-id bits are dropped, and device nodes and paths
//! that leave the folder are refused.

use std::collections::HashSet;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, BufReader, ErrorKind, Read};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail, ensure};
use flate2::read::MultiGzDecoder;
use liblzma::read::XzDecoder;
use tar::{Entry, EntryType};

use crate::process;

/// The memory of the `xz` decoder in bytes; Debian's packages need 65 MiB at most.
const MEMORY_MAX: u64 = 256 << 20;

/// The format of an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// tar.
    Tar,
    /// tar, compressed with gzip.
    Gzip,
    /// tar, compressed with xz.
    Xz,
}

impl Format {
    /// The file name endings that [`Format::of`] knows.
    pub const ENDS: [&str; 4] = [".tar", ".tar.gz", ".tgz", ".tar.xz"];

    /// Returns the format that a file's name indicates.
    pub fn of(name: &str) -> Option<Self> {
        let [tar, gzip, tgz, xz] = Self::ENDS.map(|end| name.ends_with(end));
        match () {
            () if tar => Some(Self::Tar),
            () if gzip || tgz => Some(Self::Gzip),
            () if xz => Some(Self::Xz),
            () => None,
        }
    }
}

/// Unpacks a whole archive into an existing folder.
pub fn archive(path: &Path, format: Format, into: &Path) -> Result<()> {
    let context = || format!("cannot unpack {}", path.display());
    let file = BufReader::with_capacity(1 << 16, File::open(path).with_context(context)?);
    let unpacker = Unpacker::new(into, &relative, &|_| true);
    match format {
        Format::Tar => unpacker.run(file),
        Format::Gzip => unpacker.run(MultiGzDecoder::new(file)),
        Format::Xz => xz(file).and_then(|tar| unpacker.run(tar)),
    }
    .with_context(context)
}

/// Returns the contents of an `.xz` file, such as a kernel module.
pub fn unxz(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut plain = Vec::new();
    xz(bytes)?.read_to_end(&mut plain).context("cannot unpack xz data")?;
    Ok(plain)
}

/// Decodes a stream of `xz` data.
pub fn xz<R: Read>(reader: R) -> Result<XzDecoder<R>> {
    let stream =
        liblzma::stream::Stream::new_stream_decoder(MEMORY_MAX, liblzma::stream::CONCATENATED);
    Ok(XzDecoder::new_stream(reader, stream.context("cannot start the xz decoder")?))
}

/// Splits a path of an archive; a path that leaves the folder is an error.
pub fn segments(name: &str) -> Result<Vec<&str>> {
    let segments: Vec<&str> =
        name.split('/').filter(|segment| !matches!(*segment, "" | ".")).collect();
    ensure!(!segments.contains(&".."), "it leaves the folder");
    ensure!(!name.contains('\0'), "its name has a NUL");
    Ok(segments)
}

/// The path of an entry below the folder; nothing for the folder itself.
fn relative(name: &str) -> Result<Option<String>> {
    Ok(Some(segments(name)?.join("/")).filter(|path| !path.is_empty()))
}

/// Writes the files of one tar archive.
pub struct Unpacker<'a> {
    into: &'a Path,
    path: &'a dyn Fn(&str) -> Result<Option<String>>,
    filter: &'a dyn Fn(&str) -> bool,
    /// Folders that are known to exist and not to be links.
    folders: HashSet<PathBuf>,
}

impl<'a> Unpacker<'a> {
    /// Unpacks into an existing folder.
    ///
    /// `path` turns an entry's name into its path below the folder, or drops the entry. `filter`
    /// then decides by paths such as `/usr/bin/qemu-img`.
    pub fn new(
        into: &'a Path,
        path: &'a dyn Fn(&str) -> Result<Option<String>>,
        filter: &'a dyn Fn(&str) -> bool,
    ) -> Self {
        Self { into, path, filter, folders: HashSet::new() }
    }

    /// Reads the archive to its end.
    pub fn run(mut self, tar: impl Read) -> Result<()> {
        let mut archive = tar::Archive::new(tar);
        for entry in archive.entries().context("cannot read the tar archive")? {
            process::check_interrupt()?;
            let mut entry = entry.context("cannot read the tar archive")?;
            let name = String::from_utf8(entry.path_bytes().into_owned());
            let name = name.map_err(|error| anyhow!("a file name is not UTF-8: {error}"))?;
            self.place(&name, &mut entry).with_context(|| format!("at `{name}`"))?;
        }
        Ok(())
    }

    fn place(&mut self, name: &str, entry: &mut Entry<'_, impl Read>) -> Result<()> {
        let Some(path) = (self.path)(name)? else { return Ok(()) };
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
        let target = (self.path)(target)?.context("it is a hard link to a folder")?;
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
        let parent = dir.parent().context("it is outside the folder")?;
        self.folder(parent)?;
        match DirBuilder::new().mode(0o755).create(dir) {
            Ok(()) => fs::set_permissions(dir, Permissions::from_mode(0o755))?,
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                let is_dir = fs::symlink_metadata(dir)?.is_dir();
                ensure!(is_dir, "{} is not a folder", dir.display());
            }
            Err(error) => {
                return Err(error).with_context(|| format!("cannot create {}", dir.display()));
            }
        }
        self.folders.insert(dir.to_owned());
        Ok(())
    }
}

fn link_target(entry: &Entry<'_, impl Read>) -> Result<String> {
    let target = entry.link_name_bytes().context("it is a link without a target")?;
    String::from_utf8(target.into_owned()).context("its target is not UTF-8")
}

fn write(full: &Path, mode: u32, contents: &mut impl Read) -> Result<()> {
    // `create_new` never follows an existing link.
    let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(full);
    let mut file = file.map_err(|error| taken(&error, full))?;
    io::copy(contents, &mut file).with_context(|| format!("cannot write {}", full.display()))?;
    // The mode is set again, because the umask applies when a file is created.
    file.set_permissions(Permissions::from_mode(mode))?;
    Ok(())
}

fn taken(error: &io::Error, full: &Path) -> anyhow::Error {
    if error.kind() == ErrorKind::AlreadyExists {
        return anyhow!("{} exists already; another package has it too", full.display());
    }
    anyhow!(io::Error::from(error.kind())).context(format!("cannot create {}", full.display()))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn xz_data_reads_back() {
        let text = b"module".repeat(10_000);
        assert_eq!(unxz(&compressed(&text)).unwrap(), text);
        assert_eq!(unxz(&[compressed(b"a"), compressed(b"b")].concat()).unwrap(), b"ab");
        assert!(unxz(b"ELF").is_err());
        assert!(unxz(&compressed(&text)[..50]).is_err(), "a file that was cut off");
    }

    fn compressed(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 1);
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn gzipped(entries: &[(&str, u32, &str)]) -> Vec<u8> {
        let mut out = Vec::new();
        let encoder = flate2::write::GzEncoder::new(&mut out, flate2::Compression::fast());
        let mut tar = tar::Builder::new(encoder);
        for (path, mode, text) in entries {
            let mut header = tar::Header::new_gnu();
            header.set_mode(*mode);
            header.set_size(text.len() as u64);
            let name = &mut header.as_old_mut().name;
            name[..path.len()].copy_from_slice(path.as_bytes());
            header.set_cksum();
            tar.append(&header, text.as_bytes()).unwrap();
        }
        tar.into_inner().unwrap().finish().unwrap();
        out
    }

    fn unpacked(entries: &[(&str, u32, &str)]) -> Result<tempfile::TempDir> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.tar.gz");
        File::create(&file).unwrap().write_all(&gzipped(entries)).unwrap();
        let into = dir.path().join("into");
        fs::create_dir(&into).unwrap();
        archive(&file, Format::of("a.tar.gz").unwrap(), &into).map(|()| dir)
    }

    #[test]
    fn an_archive_keeps_names_and_x_bits_but_no_set_id_bits() {
        let dir = unpacked(&[("tool-1/bin/tool", 0o4755, "x"), ("./tool-1/README", 0o644, "y")]);
        let dir = dir.unwrap();
        let tool = dir.path().join("into/tool-1/bin/tool");
        assert_eq!(tool.metadata().unwrap().permissions().mode() & 0o7777, 0o755);
        assert_eq!(fs::read(dir.path().join("into/tool-1/README")).unwrap(), b"y");
    }

    #[test]
    fn an_entry_outside_the_folder_is_refused() {
        let error = unpacked(&[("../tool", 0o755, "x")]).unwrap_err();
        assert!(format!("{error:#}").contains("it leaves the folder"), "{error:#}");
    }

    #[test]
    fn a_format_is_known_by_the_files_name() {
        assert_eq!(Format::of("tool-1.2.tgz"), Some(Format::Gzip));
        assert_eq!(Format::of("tool.tar"), Some(Format::Tar));
        assert_eq!(Format::of("tool.zip"), None);
    }
}
