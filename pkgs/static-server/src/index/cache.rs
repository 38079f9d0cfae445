//! Small bodies of open files, kept in memory after their first request, so that a small file of a
//! pack is sent with one system call, like a file of a folder.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// The most bytes of a cached body. A larger body is sent from its file, because copying it costs
/// more than a second system call.
const BODY_BYTES_MAX: u64 = 8 << 10;

/// The bodies, by the number of their variant.
#[derive(Debug, Default)]
pub struct Cache {
    bodies: Vec<OnceLock<Option<Box<[u8]>>>>,
    /// The most bytes of all bodies together.
    limit: u64,
    /// Bytes of all bodies together.
    used: AtomicU64,
}

impl Cache {
    /// Creates a cache for this many bodies with at most `limit` bytes together.
    #[must_use]
    pub fn new(count: usize, limit: u64) -> Self {
        let bodies = std::iter::repeat_with(OnceLock::new).take(count).collect();
        Self { bodies, limit, used: AtomicU64::new(0) }
    }

    /// Returns the bytes of a variant's body, if the cache has them or has room for them.
    pub(super) fn get(&self, number: usize, file: &File, start: u64, len: u64) -> Option<&[u8]> {
        let place = self.bodies.get(number).filter(|_| len <= BODY_BYTES_MAX)?;
        if let Some(known) = place.get() {
            return known.as_deref();
        }
        if self.used.fetch_add(len, Ordering::Relaxed) + len > self.limit {
            self.used.fetch_sub(len, Ordering::Relaxed);
            return None;
        }
        // If the file has become shorter, sending it detects that.
        place.get_or_init(|| read(file, start, len)).as_deref()
    }
}

fn read(file: &File, start: u64, len: u64) -> Option<Box<[u8]>> {
    let mut bytes = vec![0; usize::try_from(len).ok()?];
    file.read_exact_at(&mut bytes, start).ok()?;
    Some(bytes.into())
}
