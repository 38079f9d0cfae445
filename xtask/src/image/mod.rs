//! The writers: trees and bytes in, files of fixed formats out.
//!
//! Each file has one format and no policy. A writer never sees packages, environment or clock, so
//! equal input gives equal bytes.

pub mod cpio;
pub mod erofs;
pub mod ext4;
pub mod fat;
pub mod oci;
pub mod pe;
mod tar;
pub mod uki;

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::process::interrupted;
use crate::tree::Content;

/// A file's bytes as a stream that fails if their number differs from the tree's.
///
/// Every format writes the length first, and a wrong length would damage all that follows.
enum Reader<'a> {
    Bytes(&'a [u8]),
    Cached { file: File, path: PathBuf, left: u64 },
}

impl Reader<'_> {
    fn open(content: &Content) -> Result<Reader<'_>> {
        match content {
            Content::Bytes(bytes) => Ok(Reader::Bytes(bytes)),
            Content::Cached { path, size } => {
                let file =
                    File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
                Ok(Reader::Cached { file, path: path.clone(), left: *size })
            }
        }
    }
}

impl Read for Reader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Reader::Bytes(bytes) => bytes.read(buffer),
            Reader::Cached { file, path, left } => {
                if interrupted() {
                    return Err(io::Error::other("interrupted"));
                }
                let read = file.read(buffer)? as u64;
                if read > *left || (read == 0 && *left > 0 && !buffer.is_empty()) {
                    let path = path.display();
                    return Err(io::Error::other(format!(
                        "{path} does not have its stored length; run `cargo xtask clean` to remove it"
                    )));
                }
                *left -= read;
                Ok(usize::try_from(read).expect("a buffer's length"))
            }
        }
    }
}

/// Copies a file's bytes to `out`.
pub fn copy(content: &Content, out: &mut impl Write) -> Result<()> {
    io::copy(&mut Reader::open(content)?, out)?;
    Ok(())
}

/// Reads a file's bytes into memory.
fn load(content: &Content) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    copy(content, &mut bytes)?;
    Ok(bytes)
}

/// Writes zeros up to the next multiple of `align`, counted from `written`.
fn pad(out: &mut impl Write, written: u64, align: u64) -> Result<()> {
    io::copy(&mut io::repeat(0).take(written.next_multiple_of(align) - written), out)?;
    Ok(())
}

#[cfg(test)]
pub(crate) mod tests;
