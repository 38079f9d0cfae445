//! The compressed forms of an earlier revision.
//!
//! Most files of a site stay the same between two pushes. Their compressed forms are copied from the
//! last pack instead of being made again; they are the same bytes, because compression is
//! deterministic.

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use sha2::{Digest as _, Sha256};
use static_server::index::Coding;
use static_server::pack::layout::Blob;
use static_server::pack::open::contents;

/// The forms in a pack, by the digest of the plain body.
#[derive(Debug)]
pub struct Reuse {
    file: File,
    forms: HashMap<[u8; 32], Vec<(Coding, Blob)>>,
}

impl Reuse {
    /// Reads the index of a pack; nothing if it cannot be used.
    #[must_use]
    pub fn open(path: &Path) -> Option<Self> {
        let mut file = File::open(path).ok()?;
        let contents = contents(&mut file).ok()?;
        let blobs: HashMap<u64, Blob> = contents
            .blobs
            .iter()
            .filter(|blob| blob.len > 0)
            .map(|blob| (blob.start, *blob))
            .collect();
        let mut forms = HashMap::new();
        for resource in &contents.index.resources {
            let [plain, coded @ ..] = contents.index.variants(resource) else { continue };
            let Some(plain) = blobs.get(&plain.body.start) else { continue };
            let coded = coded
                .iter()
                .filter_map(|variant| Some((variant.coding, *blobs.get(&variant.body.start)?)));
            let coded: Vec<(Coding, Blob)> = coded.collect();
            if !coded.is_empty() {
                forms.insert(plain.sha256, coded);
            }
        }
        Some(Self { file, forms })
    }

    /// Returns the forms of a body, or nothing if the pack lacks them or one is damaged.
    #[must_use]
    pub fn forms(&self, plain: &[u8; 32]) -> Option<Vec<(Coding, Vec<u8>)>> {
        let forms = self.forms.get(plain)?.iter().map(|(coding, blob)| {
            let mut bytes = vec![0; usize::try_from(blob.len).ok()?];
            self.file.read_exact_at(&mut bytes, blob.start).ok()?;
            let digest: [u8; 32] = Sha256::digest(&bytes).into();
            (digest == blob.sha256).then_some((*coding, bytes))
        });
        forms.collect()
    }
}
