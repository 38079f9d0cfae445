//! A pack's file → an index that can be served.
//!
//! Header and index are read into memory and checked. Bodies are read from the file on demand;
//! small ones stay in memory after their first request, up to the limit. The file is never mapped:
//! if it is truncated while it is served, reads end early, and only the affected answers are cut.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use sha2::{Digest as _, Sha256};

use crate::index::Index;
use crate::index::store::Store;
use crate::pack::layout::{Blob, HEADER};
use crate::pack::read::{self, Contents};

/// Opens a pack for serving, with at most `limit` bytes of bodies in memory.
pub fn load(path: &Path, limit: u64) -> anyhow::Result<Index> {
    let reading = || format!("cannot read the pack {}", path.display());
    let mut file = File::open(path).with_context(reading)?;
    let mut index = contents(&mut file).with_context(reading)?.index;
    index.stores = vec![Arc::new(Store::File(file))];
    index.keep_at_most(limit);
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
