//! A pack's file → an index that can be served.
//!
//! Header and index are read into memory and checked. Small bodies are copied into sealed memory up
//! to the limit; everything else is read from the file on demand. The file is never mapped: if it
//! is truncated while it is served, reads end early, and only the affected answers are cut.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use anyhow::{Context as _, bail};
use sha2::{Digest as _, Sha256};

use crate::index::Index;
use crate::index::store::{Filling, Store};
use crate::pack::layout::{Blob, HEADER};
use crate::pack::read::{self, Contents, FILE};

/// The number of the store with small bodies.
const MEMORY: u32 = FILE + 1;

/// Opens a pack for serving, with at most `limit` bytes of bodies in memory.
pub fn load(path: &Path, limit: u64) -> anyhow::Result<Index> {
    let reading = || format!("cannot read the pack {}", path.display());
    let mut file = File::open(path).with_context(reading)?;
    let Contents { header, mut index, .. } = contents(&mut file).with_context(reading)?;
    let small = header.large - header.small;
    if small <= limit {
        let mut filling =
            Filling::with_room(small).context("cannot allocate memory for the content")?;
        fill(&mut filling, &file, header.small, small).with_context(reading)?;
        for variant in &mut index.variants {
            let body = &mut variant.body;
            if body.start < header.large {
                (body.store, body.start) = (MEMORY, body.start - header.small);
            }
        }
        let region = filling.seal().context("cannot seal the memory of the content")?;
        index.stores = vec![Store::File(file), Store::Memory(region)];
    } else {
        index.stores = vec![Store::File(file)];
    }
    Ok(index)
}

/// Reads and checks header and index of a pack.
pub fn contents(file: &mut File) -> anyhow::Result<Contents> {
    let found = file.metadata()?.len();
    let mut head = [0; HEADER];
    file.seek(SeekFrom::Start(0))?;
    if found < head.len() as u64 {
        return Err(read::Flaw::Foreign.into());
    }
    file.read_exact(&mut head)?;
    // The header agrees with the file's length, so the index is not longer than the file.
    let len = read::header(&head, found)?.index();
    let mut index = vec![0; usize::try_from(len)?];
    file.read_exact(&mut index)?;
    Ok(read::parse(&head, &index, found)?)
}

/// Copies small bodies as one piece.
fn fill(filling: &mut Filling, file: &File, start: u64, len: u64) -> anyhow::Result<()> {
    let mut bytes = vec![0; usize::try_from(len)?];
    file.read_exact_at(&mut bytes, start)?;
    filling.push(&bytes)?;
    Ok(())
}

/// Compares every body with its digest, and returns the number of bodies.
pub fn verify(path: &Path) -> anyhow::Result<usize> {
    let reading = || format!("cannot read the pack {}", path.display());
    let mut file = File::open(path).with_context(reading)?;
    let Contents { index, blobs, .. } = contents(&mut file).with_context(reading)?;
    for blob in &blobs {
        if digest(&mut file, blob).with_context(reading)? != blob.sha256 {
            let paths = paths(&index, blob);
            bail!("the body of {paths} at byte {} of {} is damaged", blob.start, path.display());
        }
    }
    Ok(blobs.len())
}

fn digest(file: &mut File, blob: &Blob) -> anyhow::Result<[u8; 32]> {
    file.seek(SeekFrom::Start(blob.start))?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 64 << 10];
    let mut part = file.take(blob.len);
    loop {
        let count = part.read(&mut buffer)?;
        if count == 0 {
            return Ok(hasher.finalize().into());
        }
        hasher.update(&buffer[..count]);
    }
}

/// Returns the paths of a body, for an error message.
fn paths(index: &Index, blob: &Blob) -> String {
    use crate::index::Kind;
    let has = |number: u32| {
        let resource = index.resources.get(number as usize);
        resource.is_some_and(|resource| {
            index.variants(resource).iter().any(|variant| variant.body.start == blob.start)
        })
    };
    let of = index
        .entries
        .iter()
        .filter(|entry| matches!(entry.kind, Kind::Resource(number) if has(number)));
    let names: Vec<_> = of.map(|entry| String::from_utf8_lossy(index.bytes(entry.path))).collect();
    if names.is_empty() { "an error page".to_owned() } else { names.join(", ") }
}
