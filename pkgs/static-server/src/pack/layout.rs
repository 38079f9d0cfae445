//! The records of a pack: fixed lengths, little endian, padded with zeros.

use crate::index::Span;

/// The first bytes of a pack.
pub const MAGIC: [u8; 8] = *b"KILNPACK";

/// The version of the format. Version 1 had a header block for each variant.
pub const VERSION: u32 = 2;

/// The bytes of the header.
pub const HEADER: usize = 128;

/// The bytes of the header that the checksum covers together with the index. The checksum follows
/// these bytes, and the rest of the header is zero.
pub const CHECKED: usize = 96;

/// The bytes of each record.
pub const BLOB: usize = 48;
/// See [`BLOB`].
pub const RESOURCE: usize = 16;
/// See [`BLOB`].
pub const VARIANT: usize = 16;
/// See [`BLOB`].
pub const ENTRY: usize = 16;
/// See [`BLOB`].
pub const ERROR_PAGE: usize = 16;
/// See [`BLOB`].
pub const PREPARED: usize = 16;

/// Bodies of at least this many bytes are large: they are page-aligned. Smaller bodies follow one
/// after another.
pub const LARGE: u64 = 32 << 10;

/// The alignment of large bodies.
pub const PAGE: u64 = 4096;

/// The number that means "no resource".
pub const NONE: u32 = u32::MAX;

/// The values in the header.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Header {
    /// The bytes of the whole file.
    pub file: u64,
    /// The offset of the end of the index, where small bodies begin.
    pub small: u64,
    /// The offset of the end of small bodies.
    pub large: u64,
    /// The number of blobs.
    pub blobs: u32,
    /// The number of resources.
    pub resources: u32,
    /// The number of variants.
    pub variants: u32,
    /// The number of entries.
    pub entries: u32,
    /// The number of error pages.
    pub error_pages: u32,
    /// The number of header blocks.
    pub prepared: u32,
    /// The resource of single-page mode, or [`NONE`].
    pub fallback: u32,
    /// The bytes of paths and header blocks.
    pub text: u32,
    /// The bytes of `_headers`.
    pub headers: u32,
    /// The bytes of `_redirects`.
    pub redirects: u32,
}

/// A body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Blob {
    /// The offset in the file.
    pub start: u64,
    /// The length in bytes.
    pub len: u64,
    /// The digest of the bytes.
    pub sha256: [u8; 32],
}

impl Header {
    /// Encodes the header without its checksum.
    #[must_use]
    pub fn bytes(&self) -> [u8; CHECKED] {
        let mut bytes = [0; CHECKED];
        let mut at = 0;
        let mut put = |part: &[u8]| {
            bytes[at..at + part.len()].copy_from_slice(part);
            at += part.len();
        };
        put(&MAGIC);
        put(&VERSION.to_le_bytes());
        put(&[0; 4]);
        for number in [self.file, self.small, self.large] {
            put(&number.to_le_bytes());
        }
        for number in self.counts() {
            put(&number.to_le_bytes());
        }
        bytes
    }

    const fn counts(&self) -> [u32; 10] {
        [
            self.blobs,
            self.resources,
            self.variants,
            self.entries,
            self.error_pages,
            self.prepared,
            self.fallback,
            self.text,
            self.headers,
            self.redirects,
        ]
    }

    /// Decodes the numbers of a header. The caller checks them, the magic and the version.
    #[must_use]
    pub fn parse(bytes: &[u8; HEADER]) -> Self {
        let count = |number: usize| u32_at(bytes, 40 + 4 * number);
        Self {
            file: u64_at(bytes, 16),
            small: u64_at(bytes, 24),
            large: u64_at(bytes, 32),
            blobs: count(0),
            resources: count(1),
            variants: count(2),
            entries: count(3),
            error_pages: count(4),
            prepared: count(5),
            fallback: count(6),
            text: count(7),
            headers: count(8),
            redirects: count(9),
        }
    }

    /// Returns the length of the index in bytes. A sum of few products of 32-bit numbers cannot
    /// overflow.
    #[must_use]
    pub fn index(&self) -> u64 {
        let tables = [
            (self.blobs, BLOB),
            (self.resources, RESOURCE),
            (self.variants, VARIANT),
            (self.entries, ENTRY),
            (self.error_pages, ERROR_PAGE),
            (self.prepared, PREPARED),
            (self.text, 1),
            (self.headers, 1),
            (self.redirects, 1),
        ];
        tables.iter().map(|(count, size)| u64::from(*count) * *size as u64).sum()
    }
}

/// Returns the number at an offset; 0 beyond the end, which callers exclude by length checks.
#[must_use]
pub fn u16_at(bytes: &[u8], at: usize) -> u16 {
    bytes.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |part| u16::from_le_bytes(*part))
}

/// Like [`u16_at`].
#[must_use]
pub fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |part| u32::from_le_bytes(*part))
}

/// Like [`u16_at`].
#[must_use]
pub fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |part| u64::from_le_bytes(*part))
}

/// Like [`u16_at`].
#[must_use]
pub fn span_at(bytes: &[u8], at: usize) -> Span {
    Span { start: u32_at(bytes, at), len: u32_at(bytes, at + 4) }
}
