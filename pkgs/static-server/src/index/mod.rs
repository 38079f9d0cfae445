//! The index: every path that has an answer, with that answer, as plain data.
//!
//! A folder ([`crate::folder`]) and a pack both become an [`Index`], which is all that the server
//! knows. All texts (paths, header blocks, entity tags) are in one piece of memory and referred to
//! by [`Span`]s; bodies are in [`Store`]s and referred to by [`Body`]s. An index therefore costs
//! only a few allocations, however many paths it has, and a pack can contain its tables unchanged.
//!
//! | module | content |
//! | --- | --- |
//! | [`assemble`] | files with their variants → [`Index`] |
//! | [`block`] | header blocks |
//! | [`cache`] | small bodies of open files |
//! | [`fingerprint`] | names with a fingerprint of their content |
//! | [`policy`] | cache policy by name, and the other choices for a site |
//! | [`store`] | bodies in sealed memory or in an open file |
//! | [`table`] | path → number |

pub mod assemble;
pub mod block;
pub mod cache;
pub mod fingerprint;
pub mod policy;
pub mod store;
pub mod table;
#[cfg(test)]
pub(crate) mod testing;

use std::fmt;
use std::sync::Arc;

use crate::index::cache::Cache;
use crate::index::store::Store;
use crate::index::table::Table;
use crate::rules::Rules;

/// A range of [`Index::text`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Span {
    /// The offset of the first byte.
    pub start: u32,
    /// The number of bytes.
    pub len: u32,
}

/// A content coding (RFC 9110 section 8.4.1), the simplest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Coding {
    /// No coding.
    Identity = 0,
    /// `gzip` (RFC 1952).
    Gzip = 1,
    /// `zstd` (RFC 8878).
    Zstd = 2,
    /// `br` (RFC 7932).
    Brotli = 3,
}

impl Coding {
    /// All codings, identity first.
    pub const ALL: [Self; 4] = [Self::Identity, Self::Gzip, Self::Zstd, Self::Brotli];

    /// Returns the name in `Content-Encoding` and `Accept-Encoding`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
            Self::Brotli => "br",
        }
    }

    /// Returns the extension of a sidecar file.
    #[must_use]
    pub const fn extension(self) -> &'static str {
        match self {
            Self::Identity => "",
            Self::Gzip => ".gz",
            Self::Zstd => ".zst",
            Self::Brotli => ".br",
        }
    }
}

/// The location of a representation's bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Body {
    /// The number of the store in [`Index::stores`].
    pub store: u32,
    /// The offset of the first byte.
    pub start: u64,
    /// The number of bytes.
    pub len: u64,
}

/// The first half of a body's SHA-256, which becomes its entity tag.
pub type Tag = [u8; 16];

/// A header block that many variants share: the status line and all fields that do not depend on
/// the body, each with its CRLF.
///
/// It has three parts: the status line, fields that only an answer with a body has, and fields that
/// a 304 has too. `Content-Length`, `ETag`, `Last-Modified`, `Date` and `Connection` are added to
/// each answer ([`crate::answer::own`]). A site of many files therefore has few blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prepared {
    /// The whole block.
    pub head: Span,
    /// The offset of the block's second part.
    pub rest: u32,
    /// The offset of the block's third part.
    pub shared: u32,
}

/// A representation of a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Variant {
    /// The coding of the body.
    pub coding: Coding,
    /// The number of the header block in [`Index::prepared`].
    pub prepared: u32,
    /// The entity tag, which an answer with status 200 has.
    pub tag: Tag,
    /// The body.
    pub body: Body,
}

/// The answer of one or more paths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resource {
    /// 200, or 404 for an error page.
    pub status: u16,
    /// The number of variants. `Accept-Encoding` chooses among several.
    pub count: u16,
    /// The number in [`Index::variants`] of the first variant, which is always the identity.
    pub first: u32,
    /// `Last-Modified`, in seconds since 1970.
    pub modified: Option<u64>,
}

/// The kind of answer at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// An answer: its number in [`Index::resources`].
    Resource(u32),
    /// A redirect to the same path with a slash, for a folder with an index page.
    AddSlash,
    /// A redirect to the same path without the slash (clean URLs).
    StripSlash,
    /// A redirect to the same path without `.html` or `index.html` (clean URLs).
    StripHtml,
}

/// A path that has an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// The decoded path; begins with a slash.
    pub path: Span,
    /// The kind of answer.
    pub kind: Kind,
}

/// A folder with an error page of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ErrorPage {
    /// The folder's path; ends with a slash.
    pub folder: Span,
    /// Number in [`Index::resources`], of a resource whose status is 404.
    pub resource: u32,
}

/// The index of one site.
#[derive(Debug, Default)]
pub struct Index {
    /// The texts that spans refer to.
    pub text: Vec<u8>,
    /// Paths.
    pub entries: Vec<Entry>,
    /// Path → number in [`Index::entries`].
    pub table: Table,
    /// Answers.
    pub resources: Vec<Resource>,
    /// Representations.
    pub variants: Vec<Variant>,
    /// Header blocks.
    pub prepared: Vec<Prepared>,
    /// The bodies. The first store has small bodies, the others one each.
    pub stores: Vec<Arc<Store>>,
    /// Error pages, the deepest folder first.
    pub error_pages: Vec<ErrorPage>,
    /// The answer of single-page mode for a path without an answer, unless its last segment has a
    /// dot.
    pub fallback: Option<u32>,
    /// `_headers` and `_redirects`.
    pub rules: Rules,
    /// The number of files and folders that could not be read. The site is ready if the number is
    /// 0.
    pub unread: u32,
    /// Small bodies that are not in a memory store. [`Index::keep_at_most`] creates the cache.
    pub cache: Cache,
}

/// The most bytes in [`Index::cache`].
const CACHE_BYTES_MAX: u64 = 64 << 20;

/// The most bytes of header blocks. A site usually has a few dozen different ones, which take a few
/// kilobytes.
pub const PREPARED_BYTES_MAX: usize = 16 << 20;

/// The reason why an index cannot hold a site.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TooLarge {
    /// Paths of more than 4 GiB.
    Paths,
    /// Header blocks of more than 16 MiB.
    Prepared,
}

impl fmt::Display for TooLarge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Paths => "the paths of all files take more than 4 GiB",
            Self::Prepared => {
                "the rules of _headers make different header blocks of more than 16 MiB; let the \
                 same rules apply to more files"
            }
        })
    }
}

impl std::error::Error for TooLarge {}

impl Index {
    /// Returns the bytes of a span.
    #[must_use]
    pub fn bytes(&self, span: Span) -> &[u8] {
        let start = span.start as usize;
        self.text.get(start..start + span.len as usize).unwrap_or_default()
    }

    /// Looks up a decoded path.
    #[must_use]
    pub fn find(&self, path: &[u8]) -> Option<Kind> {
        Some(self.entries[self.number(path)? as usize].kind)
    }

    /// Returns the number of a path's entry.
    #[must_use]
    pub fn number(&self, path: &[u8]) -> Option<u32> {
        self.table.find(path, |number| self.path(number))
    }

    fn path(&self, number: u32) -> &[u8] {
        self.entries.get(number as usize).map_or(&[], |entry| self.bytes(entry.path))
    }

    /// Returns the variants of a resource of this index; there is at least one.
    #[must_use]
    pub fn variants(&self, resource: &Resource) -> &[Variant] {
        let first = resource.first as usize;
        &self.variants[first..first + usize::from(resource.count)]
    }

    /// Returns the bytes of a body that is in memory.
    #[must_use]
    pub fn memory(&self, body: Body) -> Option<&[u8]> {
        self.stores.get(body.store as usize)?.memory(body.start, body.len)
    }

    /// Returns the bytes of a variant's body, if they are in memory or small enough to be kept
    /// there.
    #[must_use]
    pub fn variant_bytes(&self, number: u32) -> Option<&[u8]> {
        let body = self.variants.get(number as usize)?.body;
        match &**self.stores.get(body.store as usize)? {
            Store::Memory(_) => self.memory(body),
            Store::File(file) => self.cache.get(number as usize, file, body.start, body.len),
        }
    }

    /// Returns the error page of the nearest folder above a path.
    #[must_use]
    pub fn error_page(&self, path: &[u8]) -> Option<u32> {
        let pages = &mut self.error_pages.iter();
        let page = pages.find(|page| path.starts_with(self.bytes(page.folder)))?;
        Some(page.resource)
    }

    /// Returns the header block of a variant of this index.
    #[must_use]
    pub fn prepared(&self, variant: &Variant) -> &Prepared {
        &self.prepared[variant.prepared as usize]
    }

    /// Appends to the texts.
    pub fn push_text(&mut self, bytes: &[u8]) -> Result<Span, TooLarge> {
        let start = u32::try_from(self.text.len()).map_err(|_| TooLarge::Paths)?;
        let len = u32::try_from(bytes.len()).map_err(|_| TooLarge::Paths)?;
        start.checked_add(len).ok_or(TooLarge::Paths)?;
        self.text.extend_from_slice(bytes);
        Ok(Span { start, len })
    }

    /// Builds the table of paths. Called once, after all entries were added.
    pub fn finish(&mut self) {
        let mut table = Table::with_room(self.entries.len());
        for number in 0..u32::try_from(self.entries.len()).unwrap_or(u32::MAX) {
            table.insert(number, self.path(number));
        }
        self.table = table;
    }

    /// Keeps small bodies of open files in memory after their first request, up to this many bytes.
    pub fn keep_at_most(&mut self, limit: u64) {
        let has_files = self.stores.iter().any(|store| matches!(**store, Store::File(_)));
        let count = if has_files { self.variants.len() } else { 0 };
        self.cache = Cache::new(count, limit.min(CACHE_BYTES_MAX));
    }

    /// Returns the number of bytes of content in memory.
    #[must_use]
    pub fn content_bytes(&self) -> u64 {
        self.stores.iter().map(|store| store.memory_bytes()).sum()
    }

    /// Returns the store of a variant's body if the store has no other body, so that an answer can
    /// do without the index.
    #[must_use]
    pub fn own_store(&self, variant: &Variant) -> Option<&Arc<Store>> {
        self.own_stores().get((variant.body.store as usize).checked_sub(1)?)
    }

    /// Returns the stores with one body each.
    #[must_use]
    pub fn own_stores(&self) -> &[Arc<Store>] {
        self.stores.get(1..).unwrap_or_default()
    }
}
