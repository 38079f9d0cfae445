//! Small bodies of open files, kept in memory after they were first asked for: so a small file of a
//! pack is sent with one system call like one of a folder.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::index::store::Store;
use crate::index::{Body, Index};

/// Larger bodies are sent from their file: there copying costs more than a second system call.
const LARGEST: u64 = 8 << 10;

/// Bodies by the number of their variant.
#[derive(Debug, Default)]
pub struct Cache {
    bodies: Vec<OnceLock<Option<Box<[u8]>>>>,
    /// Most bytes, and how many there are.
    limit: u64,
    used: AtomicU64,
}

impl Cache {
    /// Room for so many bodies and bytes.
    #[must_use]
    pub fn new(count: usize, limit: u64) -> Self {
        let bodies = std::iter::repeat_with(OnceLock::new).take(count).collect();
        Self { bodies, limit, used: AtomicU64::new(0) }
    }

    /// A body's bytes, if they are here or can be.
    fn get(&self, number: usize, file: &File, body: Body) -> Option<&[u8]> {
        let place = self.bodies.get(number).filter(|_| body.len <= LARGEST)?;
        if let Some(known) = place.get() {
            return known.as_deref();
        }
        if self.used.fetch_add(body.len, Ordering::Relaxed) + body.len > self.limit {
            self.used.fetch_sub(body.len, Ordering::Relaxed);
            return None;
        }
        // A file that has become shorter is found out when it is sent.
        place.get_or_init(|| read(file, body)).as_deref()
    }
}

fn read(file: &File, body: Body) -> Option<Box<[u8]>> {
    let mut bytes = vec![0; usize::try_from(body.len).ok()?];
    file.read_exact_at(&mut bytes, body.start).ok()?;
    Some(bytes.into())
}

impl Index {
    /// The bytes of a variant's body, where they are in memory or small enough to be.
    #[must_use]
    pub fn variant_bytes(&self, number: u32) -> Option<&[u8]> {
        let body = self.variants.get(number as usize)?.body;
        match self.stores.get(body.store as usize)? {
            Store::Memory(_) => self.memory(body),
            Store::File(file) => self.cache.get(number as usize, file, body),
        }
    }
}
