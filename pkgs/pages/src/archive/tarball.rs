//! Tar archives: POSIX, GNU and the old format.
//!
//! The library's raw mode gives each header as it is, so that the records with long names are bounded
//! here; its other mode reads such a record into memory whatever its size.

use std::io::{self, Read};

use tar::{Archive, Entry, EntryType, PaxExtensions};

use crate::archive::limits::Refusal;
use crate::archive::meter::{Meter, Metered, damaged};
use crate::archive::tree::Tree;

/// The most bytes of a record with a long name or with attributes.
const RECORD_BYTES_MAX: u64 = 64 << 10;

/// The size of headers, and the unit of contents.
const BLOCK: u64 = 512;

/// The attributes for the next entry.
#[derive(Default)]
struct Next {
    path: Option<Vec<u8>>,
    size: Option<u64>,
    is_sparse: bool,
}

/// Reads a tar archive into a tree.
pub fn read(from: impl Read, meter: &Meter<'_>, tree: &mut Tree) -> Result<(), Refusal> {
    let mut archive = Archive::new(meter.reader(from));
    let mut next = Next::default();
    // The end of the last content.
    let mut end = 0;
    let entries = archive.entries().map_err(|error| damaged(&error))?;
    for (number, entry) in entries.raw(true).enumerate() {
        let mut entry = entry.map_err(|error| unreadable(&error, number, meter))?;
        let size = entry.header().entry_size().map_err(|error| damaged(&error))?;
        end = size
            .checked_next_multiple_of(BLOCK)
            .and_then(|size| size.checked_add(entry.raw_file_position()))
            .ok_or_else(|| Refusal::Damaged("a size is too large".to_owned()))?;
        match entry.header().entry_type() {
            EntryType::GNULongName => next.path = Some(until_nul(record(&mut entry, size)?)),
            EntryType::XHeader => attributes(&record(&mut entry, size)?, &mut next)?,
            EntryType::GNULongLink | EntryType::XGlobalHeader => {
                record(&mut entry, size)?;
            }
            kind => add(&mut entry, kind, size, std::mem::take(&mut next), tree)?,
        }
    }
    finish(archive.into_inner(), end)
}

/// Checks that an archive has its mark at the end, and reads the rest for the sake of its checksum.
fn finish<R: Read>(mut rest: Metered<'_, R>, end: u64) -> Result<(), Refusal> {
    if rest.count() < end + BLOCK {
        return Err(Refusal::Truncated);
    }
    io::copy(&mut rest, &mut io::sink()).map(drop).map_err(|error| damaged(&error))
}

/// Returns the refusal for a header that cannot be read; the first one shows that it is no archive.
fn unreadable(error: &io::Error, number: usize, meter: &Meter<'_>) -> Refusal {
    if meter.has_failed() {
        damaged(error)
    } else if number == 0 {
        Refusal::Format
    } else if meter.has_ended() {
        Refusal::Truncated
    } else {
        damaged(error)
    }
}

fn add<R: Read>(
    entry: &mut Entry<'_, R>,
    kind: EntryType,
    size: u64,
    next: Next,
    tree: &mut Tree,
) -> Result<(), Refusal> {
    let path = next.path.unwrap_or_else(|| entry.header().path_bytes().into_owned());
    let other = |what| Err(Refusal::NotAFile(path.clone(), what));
    if next.is_sparse {
        return other("a sparse file");
    }
    // Programs disagree about such a file's end, so its content is not clear.
    if next.size.is_some_and(|said| said != size) {
        return Err(Refusal::Damaged("a file has two sizes".to_owned()));
    }
    match kind {
        EntryType::Directory => return tree.add_folder(&path),
        EntryType::Regular | EntryType::Continuous if path.ends_with(b"/") => {
            return tree.add_folder(&path);
        }
        EntryType::Regular | EntryType::Continuous => {}
        EntryType::Symlink => return other("a symbolic link"),
        EntryType::Link => return other("a hard link"),
        EntryType::Char | EntryType::Block => return other("a device"),
        EntryType::Fifo => return other("a pipe"),
        EntryType::GNUSparse => return other("a sparse file"),
        _ => return other("an entry of an unknown kind"),
    }
    if tree.add_file(&path, entry)? == size { Ok(()) } else { Err(Refusal::Truncated) }
}

/// Reads a record that belongs to the next entry.
fn record(entry: &mut impl Read, size: u64) -> Result<Vec<u8>, Refusal> {
    if size > RECORD_BYTES_MAX {
        return Err(Refusal::Damaged("a record with a long name is too large".to_owned()));
    }
    let mut bytes = Vec::new();
    entry.read_to_end(&mut bytes).map_err(|error| damaged(&error))?;
    if bytes.len() as u64 == size { Ok(bytes) } else { Err(Refusal::Truncated) }
}

fn until_nul(mut bytes: Vec<u8>) -> Vec<u8> {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    bytes.truncate(end);
    bytes
}

/// Reads the attributes of POSIX's extended headers (pax).
fn attributes(bytes: &[u8], next: &mut Next) -> Result<(), Refusal> {
    for attribute in PaxExtensions::new(bytes) {
        let attribute = attribute.map_err(|error| damaged(&error))?;
        let value = attribute.value_bytes();
        match attribute.key_bytes() {
            b"path" => next.path = Some(value.to_vec()),
            b"size" => {
                let size = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
                let size =
                    size.ok_or_else(|| Refusal::Damaged("a size is no number".to_owned()))?;
                next.size = Some(size);
            }
            key if key.starts_with(b"GNU.sparse.") => next.is_sparse = true,
            _ => {}
        }
    }
    Ok(())
}
