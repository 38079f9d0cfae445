//! The index: every path that has an answer, with that answer, as plain data.
//!
//! A folder ([`crate::folder`]) and a pack both become an [`Index`], and the server knows nothing
//! else. All texts (paths, header blocks, entity tags) lie in one piece of memory and are named by
//! [`Span`]s; bodies lie in [`Store`]s and are named by [`Body`]s. So an index costs a few
//! allocations however many paths it has, and a pack can hold its tables as they are.
//!
//! | module | what |
//! | --- | --- |
//! | [`assemble`] | files with their variants → [`Index`] |
//! | [`block`] | header blocks |
//! | [`cache`] | small bodies of open files |
//! | [`policy`] | cache policy by name, and the other choices of whoever runs a site |
//! | [`store`] | where bodies are: sealed memory or an open file |
//! | [`table`] | path → number |

pub mod assemble;
pub mod block;
pub mod cache;
pub mod policy;
pub mod store;
pub mod table;
#[cfg(test)]
pub(crate) mod testing;

use crate::index::cache::Cache;
use crate::index::store::Store;
use crate::index::table::Table;
use crate::rules::Rules;

/// A part of [`Index::text`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Span {
    /// Offset of its first byte.
    pub start: u32,
    /// Number of bytes.
    pub len: u32,
}

/// A content coding (RFC 9110 section 8.4.1), in the order in which they are preferred when a
/// client likes several equally; identity is the one that needs nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Coding {
    /// None.
    Identity = 0,
    /// `gzip` (RFC 1952).
    Gzip = 1,
    /// `zstd` (RFC 8878).
    Zstd = 2,
    /// `br` (RFC 7932).
    Brotli = 3,
}

impl Coding {
    /// All of them, the plainest first.
    pub const ALL: [Self; 4] = [Self::Identity, Self::Gzip, Self::Zstd, Self::Brotli];

    /// Its name in `Content-Encoding` and `Accept-Encoding`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
            Self::Brotli => "br",
        }
    }

    /// How the name of a sidecar file ends.
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

/// Where the bytes of a representation are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Body {
    /// Number in [`Index::stores`].
    pub store: u32,
    /// Offset of the first byte.
    pub start: u64,
    /// Number of bytes.
    pub len: u64,
}

/// One representation of a resource, ready to be sent.
///
/// The block is the status line and all fields but `Date` and `Connection`, each with its CRLF, in
/// three parts: status line with `Content-Length`, what only an answer with a body has, and what a
/// 304 has too. So the blocks of 206 and 304 need no memory of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Variant {
    /// How the body is coded.
    pub coding: Coding,
    /// The block.
    pub head: Span,
    /// Where in the block the second part begins.
    pub rest: u32,
    /// Where in the block the third part begins.
    pub shared: u32,
    /// The strong entity tag with its quotes; empty where there is none.
    pub etag: Span,
    /// The body.
    pub body: Body,
}

/// What one path, or several, answer with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resource {
    /// 200, or 404 for an error page.
    pub status: u16,
    /// Number of variants; more than one are chosen by `Accept-Encoding`.
    pub count: u16,
    /// Number of the first one in [`Index::variants`], which is always the identity.
    pub first: u32,
    /// `Last-Modified`, in seconds since 1970.
    pub modified: Option<u64>,
}

/// What is at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// An answer: number in [`Index::resources`].
    Resource(u32),
    /// Nothing but a way to the same path with a slash: a folder with an index page.
    AddSlash,
    /// Nothing but a way to the same path without it (clean URLs).
    StripSlash,
    /// Nothing but a way to the same path without `.html` or `index.html` (clean URLs).
    StripHtml,
}

/// A path that has an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// The decoded path; begins with a slash.
    pub path: Span,
    /// What is there.
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

/// Everything of one site.
#[derive(Debug, Default)]
pub struct Index {
    /// What all spans are parts of.
    pub text: Vec<u8>,
    /// Paths.
    pub entries: Vec<Entry>,
    /// Path → number in [`Index::entries`].
    pub table: Table,
    /// Answers.
    pub resources: Vec<Resource>,
    /// Representations.
    pub variants: Vec<Variant>,
    /// Where bodies are.
    pub stores: Vec<Store>,
    /// Error pages, the deepest folder first.
    pub error_pages: Vec<ErrorPage>,
    /// What a path without an answer gets in single-page mode, unless its last segment has a dot.
    pub fallback: Option<u32>,
    /// `_headers` and `_redirects`.
    pub rules: Rules,
    /// Files and folders that could not be read: the site is not ready then.
    pub unread: u32,
    /// Small bodies that are not in a memory store; made by [`Index::finish`].
    pub cache: Cache,
}

/// Most bytes of [`Index::cache`].
const CACHE_BYTES_MAX: u64 = 64 << 20;

impl Index {
    /// The bytes of a span.
    #[must_use]
    pub fn bytes(&self, span: Span) -> &[u8] {
        let start = span.start as usize;
        self.text.get(start..start + span.len as usize).unwrap_or_default()
    }

    /// Looks a decoded path up.
    #[must_use]
    pub fn find(&self, path: &[u8]) -> Option<Kind> {
        let number = self.table.find(path, |number| self.path(number))?;
        Some(self.entries[number as usize].kind)
    }

    fn path(&self, number: u32) -> &[u8] {
        self.entries.get(number as usize).map_or(&[], |entry| self.bytes(entry.path))
    }

    /// A resource's variants; never empty for a resource of this index.
    #[must_use]
    pub fn variants(&self, resource: &Resource) -> &[Variant] {
        let first = resource.first as usize;
        &self.variants[first..first + usize::from(resource.count)]
    }

    /// A body's bytes, where they are in memory.
    #[must_use]
    pub fn memory(&self, body: Body) -> Option<&[u8]> {
        self.stores.get(body.store as usize)?.memory(body.start, body.len)
    }

    /// Returns the bytes of a variant's body, if they are in memory or small enough to be kept there.
    #[must_use]
    pub fn variant_bytes(&self, number: u32) -> Option<&[u8]> {
        let body = self.variants.get(number as usize)?.body;
        match self.stores.get(body.store as usize)? {
            Store::Memory(_) => self.memory(body),
            Store::File(file) => self.cache.get(number as usize, file, body.start, body.len),
        }
    }

    /// The error page for a path: that of the nearest folder above it.
    #[must_use]
    pub fn error_page(&self, path: &[u8]) -> Option<u32> {
        let pages = &mut self.error_pages.iter();
        let page = pages.find(|page| path.starts_with(self.bytes(page.folder)))?;
        Some(page.resource)
    }

    /// Appends to the texts.
    pub fn push_text(&mut self, bytes: &[u8]) -> Span {
        let start = u32::try_from(self.text.len()).unwrap_or(u32::MAX);
        self.text.extend_from_slice(bytes);
        Span { start, len: u32::try_from(bytes.len()).unwrap_or(0) }
    }

    /// Makes the table of paths and the empty cache; called once, when all entries are there.
    pub fn finish(&mut self) {
        let mut table = Table::with_room(self.entries.len());
        for number in 0..u32::try_from(self.entries.len()).unwrap_or(u32::MAX) {
            table.insert(number, self.path(number));
        }
        self.table = table;
        let files = self.stores.iter().any(|store| matches!(store, Store::File(_)));
        self.cache = Cache::new(if files { self.variants.len() } else { 0 }, CACHE_BYTES_MAX);
    }

    /// Bytes of content in memory.
    #[must_use]
    pub fn content_bytes(&self) -> u64 {
        self.stores.iter().map(Store::memory_bytes).sum()
    }
}
