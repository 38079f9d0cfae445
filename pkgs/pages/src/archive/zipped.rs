//! Zip archives, with stored and deflated files.
//!
//! The directory at the end is read entry by entry, so its size costs no memory. Each file must have
//! bytes of its own, because files that share bytes multiply the content without bound
//! (D. Fifield, A better zip bomb, WOOT 2019).

use std::fs::File;

use flate2::read::DeflateDecoder;
use rawzip::{CompressionMethod, RECOMMENDED_BUFFER_SIZE, ZipArchive, ZipFileHeaderRecord};

use crate::archive::limits::Refusal;
use crate::archive::meter::Meter;
use crate::archive::tree::Tree;

/// The bits of a Unix mode that tell the type of a file, and those of a file and a folder.
const TYPE: u32 = 0o170_000;
const FILE: u32 = 0o100_000;
const FOLDER: u32 = 0o040_000;
const LINK: u32 = 0o120_000;

/// Reads a zip archive into a tree.
pub fn read(file: &File, meter: &Meter<'_>, tree: &mut Tree) -> Result<(), Refusal> {
    let file = file.try_clone().map_err(Refusal::Disk)?;
    let mut buffer = vec![0; RECOMMENDED_BUFFER_SIZE];
    let archive = ZipArchive::from_file(file, &mut buffer).map_err(|error| broken(&error))?;
    let mut ranges = vec![(archive.directory_offset(), u64::MAX)];
    let mut entries = archive.entries(&mut buffer);
    while let Some(entry) = entries.next_entry().map_err(|error| broken(&error))? {
        let path = entry.file_path().as_ref().to_vec();
        if is_folder(&entry, &path)? {
            tree.add_folder(&path)?;
            // Folders count, although a repeated one is no new entry.
            ranges.push((entry.local_header_offset(), entry.local_header_offset()));
        } else {
            let found = archive.get_entry(entry.wayfinder()).map_err(|error| broken(&error))?;
            ranges.push(found.compressed_data_range());
            let raw = found.reader();
            match entry.compression_method() {
                CompressionMethod::STORE => {
                    let content = found.verifying_reader(raw);
                    tree.add_file(&path, meter.reader(content))?;
                }
                CompressionMethod::DEFLATE => {
                    let content = found.verifying_reader(DeflateDecoder::new(raw));
                    tree.add_file(&path, meter.reader(content))?;
                }
                _ => return Err(Refusal::Method(path)),
            }
        }
        if ranges.len() > tree.entries_max() {
            return Err(Refusal::TooMany(tree.entries_max()));
        }
    }
    ranges.sort_unstable();
    let is_shared = ranges.windows(2).any(|pair| pair[0].1 > pair[1].0);
    if is_shared { Err(Refusal::Overlap) } else { Ok(()) }
}

/// Returns true for a folder, false for a file, and an error for anything else.
fn is_folder(entry: &ZipFileHeaderRecord<'_>, path: &[u8]) -> Result<bool, Refusal> {
    if entry.flags().is_encrypted() || entry.flags().has_strong_encryption() {
        return Err(Refusal::Method(path.to_vec()));
    }
    if entry.is_dir() {
        return Ok(true);
    }
    match entry.mode().value() & TYPE {
        // Zero: the program that made the archive knows no types.
        0 | FILE => Ok(false),
        FOLDER => Ok(true),
        LINK => Err(Refusal::NotAFile(path.to_vec(), "a symbolic link")),
        _ => Err(Refusal::NotAFile(path.to_vec(), "a device or a pipe")),
    }
}

fn broken(error: &rawzip::Error) -> Refusal {
    use rawzip::ErrorKind;
    match error.kind() {
        ErrorKind::Eof | ErrorKind::MissingEndOfCentralDirectory => Refusal::Truncated,
        _ => Refusal::Damaged(error.to_string()),
    }
}
