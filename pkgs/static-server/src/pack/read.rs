//! Bytes of a pack → [`Index`], as a pure function that never panics, whatever the bytes are. The
//! result can be served, because every count and reference is checked.

use std::fmt;

use crate::index::assemble::RULES;
use crate::index::{
    Body, Coding, Entry, ErrorPage, Index, Kind, Prepared, Resource, Span, Tag, Variant,
};
use crate::pack::layout::{
    BLOB, Blob, CHECKED, ENTRY, ERROR_PAGE, HEADER, Header, MAGIC, NONE, PREPARED, RESOURCE,
    VARIANT, VERSION, span_at, u16_at, u32_at, u64_at,
};
use crate::rules::{Rules, check_size};

/// The number of the store with a pack's bodies: the file itself.
pub const FILE: u32 = 0;

/// The reason why a pack cannot be served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Flaw {
    /// The bytes do not begin like a pack.
    Foreign,
    /// The version is not [`VERSION`].
    Version(u32),
    /// The length of the file is not the one in its header.
    Length {
        /// The length in the header.
        said: u64,
        /// The length of the file.
        found: u64,
    },
    /// The header or the index has changed since it was written.
    Checksum,
    /// A number is out of bounds.
    Bounds(&'static str),
    /// An invalid line of `_headers` or `_redirects`.
    Rule(String),
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Foreign => f.write_str("it is not a pack"),
            Self::Version(version) => {
                write!(
                    f,
                    "it has version {version}, but this program reads version {VERSION}; make it \
                     again with `static-server pack`"
                )
            }
            Self::Length { said, found } => {
                write!(f, "it has {found} bytes and should have {said}")
            }
            Self::Checksum => f.write_str("its index is damaged: the checksum differs"),
            Self::Bounds(what) => write!(f, "its index is damaged: {what}"),
            Self::Rule(what) => write!(f, "it has an invalid rule: {what}"),
        }
    }
}

impl std::error::Error for Flaw {}

/// The content of a pack's index.
#[derive(Debug)]
pub struct Contents {
    /// The header.
    pub header: Header,
    /// The site. All bodies are in the store [`FILE`], which the caller adds.
    pub index: Index,
    /// All bodies.
    pub blobs: Vec<Blob>,
}

/// Parses a header; `found` is the file's length. The index is then `header.index()` bytes long,
/// and shorter than the file.
pub fn header(bytes: &[u8], found: u64) -> Result<Header, Flaw> {
    let Some(bytes) = bytes.first_chunk::<HEADER>().filter(|bytes| bytes.starts_with(&MAGIC))
    else {
        return Err(Flaw::Foreign);
    };
    let version = u32_at(bytes, MAGIC.len());
    if version != VERSION {
        return Err(Flaw::Version(version));
    }
    let header = Header::parse(bytes);
    if header.file != found {
        return Err(Flaw::Length { said: header.file, found });
    }
    let end = header.index() + HEADER as u64;
    ensure(end == header.small, "the index has the wrong length")?;
    ensure(
        header.small <= header.large && header.large <= header.file,
        "the bodies are out of order",
    )?;
    Ok(header)
}

/// Parses an index. `head` is the first [`HEADER`] bytes of the file, `index` the `header.index()`
/// bytes after them.
pub fn parse(head: &[u8; HEADER], index: &[u8], found: u64) -> Result<Contents, Flaw> {
    let header = header(head, found)?;
    if index.len() as u64 != header.index() || head[CHECKED..] != checksum(head, index) {
        return Err(Flaw::Checksum);
    }
    tables(header, index)
}

/// Returns the bytes after the header's checked bytes: the CRC-32 of these bytes and the index, and
/// zeros.
///
/// The checksum detects damage, not malice, so that a start reads the index at the speed of memory;
/// every number is checked besides.
#[must_use]
pub fn checksum(head: &[u8], index: &[u8]) -> [u8; HEADER - CHECKED] {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&head[..CHECKED.min(head.len())]);
    hasher.update(index);
    let mut sum = [0; HEADER - CHECKED];
    sum[..4].copy_from_slice(&hasher.finalize().to_le_bytes());
    sum
}

fn ensure(holds: bool, what: &'static str) -> Result<(), Flaw> {
    if holds { Ok(()) } else { Err(Flaw::Bounds(what)) }
}

/// The parts of an index, in order.
struct Parts<'a> {
    rest: &'a [u8],
}

impl<'a> Parts<'a> {
    /// Takes the next part. The sum of all lengths has been checked.
    fn take(&mut self, count: u32, size: usize) -> &'a [u8] {
        let (part, rest) = self.rest.split_at((count as usize * size).min(self.rest.len()));
        self.rest = rest;
        part
    }
}

fn tables(header: Header, bytes: &[u8]) -> Result<Contents, Flaw> {
    let mut parts = Parts { rest: bytes };
    let blobs = parts.take(header.blobs, BLOB);
    let resources = parts.take(header.resources, RESOURCE);
    let variants = parts.take(header.variants, VARIANT);
    let entries = parts.take(header.entries, ENTRY);
    let error_pages = parts.take(header.error_pages, ERROR_PAGE);
    let prepared = parts.take(header.prepared, PREPARED);
    let text = parts.take(header.text, 1);
    let headers = parts.take(header.headers, 1);
    let redirects = parts.take(header.redirects, 1);
    let rules = rules(headers, redirects)?;
    let blobs = each(blobs, BLOB, |part| blob(part, &header))?;
    let prepared = each(prepared, PREPARED, |part| block(part, text))?;
    let variants = each(variants, VARIANT, |part| variant(part, &prepared, &blobs))?;
    let has_status = |variant: &Variant, status: u16| {
        let block = part(text, prepared[variant.prepared as usize].head);
        block.starts_with(status_line(status))
    };
    let resources = each(resources, RESOURCE, |part| resource(part, &variants, has_status))?;
    let entries = each(entries, ENTRY, |part| entry(part, text, &resources))?;
    let error_pages = each(error_pages, ERROR_PAGE, |part| error_page(part, text, &resources))?;
    are_sorted(text, &entries, &error_pages)?;
    let fallback = (header.fallback != NONE).then_some(header.fallback);
    ensure(fallback.is_none_or(|number| is_found(&resources, number)), "no such fallback")?;
    let text = text.to_vec();
    let tables = Index { text, entries, resources, variants, error_pages, ..Index::default() };
    let mut index = Index { prepared, fallback, rules, ..tables };
    index.finish();
    Ok(Contents { header, index, blobs })
}

/// Parses the two files with rules. An invalid line is an error, because the packer refuses it.
fn rules(headers: &[u8], redirects: &[u8]) -> Result<Rules, Flaw> {
    for (name, text) in RULES.into_iter().zip([headers, redirects]) {
        check_size(name, text.len() as u64).map_err(|bad| Flaw::Rule(bad.to_string()))?;
    }
    let (rules, complaints) = Rules::parse(headers, redirects);
    match complaints.first() {
        None => Ok(rules),
        Some(bad) => Err(Flaw::Rule(format!("{}:{}: {}", bad.file, bad.line, bad.what))),
    }
}

/// Checks that each path occurs once, and that nearer error pages come first.
fn are_sorted(text: &[u8], entries: &[Entry], error_pages: &[ErrorPage]) -> Result<(), Flaw> {
    let path = |entry: &Entry| part(text, entry.path);
    ensure(entries.is_sorted_by(|a, b| path(a) < path(b)), "paths are not in order")?;
    let nearer = |a: &ErrorPage, b: &ErrorPage| a.folder.len >= b.folder.len;
    ensure(error_pages.is_sorted_by(nearer), "error pages are not in order")
}

fn each<T>(
    bytes: &[u8],
    size: usize,
    read: impl Fn(&[u8]) -> Result<T, Flaw>,
) -> Result<Vec<T>, Flaw> {
    bytes.chunks_exact(size).map(read).collect()
}

fn blob(bytes: &[u8], header: &Header) -> Result<Blob, Flaw> {
    let (start, len) = (u64_at(bytes, 0), u64_at(bytes, 8));
    let end = start.checked_add(len).filter(|end| *end <= header.file);
    ensure(start >= header.small && end.is_some(), "a body is outside the file")?;
    // Small bodies are read in one piece.
    ensure(
        start >= header.large || end <= Some(header.large),
        "a body crosses the end of small bodies",
    )?;
    let mut sha256 = [0; 32];
    sha256.copy_from_slice(&bytes[16..48]);
    Ok(Blob { start, len, sha256 })
}

fn block(bytes: &[u8], text: &[u8]) -> Result<Prepared, Flaw> {
    let (head, rest, shared) = (span_at(bytes, 0), u32_at(bytes, 8), u32_at(bytes, 12));
    ensure(is_within(text, head), "a text is out of bounds")?;
    ensure(rest <= shared && shared <= head.len, "the parts of a header block are out of order")?;
    ensure(is_block(part(text, head), rest, shared), "a header block is invalid")?;
    Ok(Prepared { head, rest, shared })
}

fn variant(bytes: &[u8], prepared: &[Prepared], blobs: &[Blob]) -> Result<Variant, Flaw> {
    let number = u32_at(bytes, 0);
    ensure((number as usize) < prepared.len(), "no such header block")?;
    let blob = blobs.get(u32_at(bytes, 4) as usize).ok_or(Flaw::Bounds("no such body"))?;
    let coding =
        Coding::ALL.get(u32_at(bytes, 8) as usize).ok_or(Flaw::Bounds("no such coding"))?;
    let mut tag = Tag::default();
    let half = tag.len();
    tag.copy_from_slice(&blob.sha256[..half]);
    let body = Body { store: FILE, start: blob.start, len: blob.len };
    Ok(Variant { coding: *coding, prepared: number, tag, body })
}

const fn status_line(status: u16) -> &'static [u8] {
    match status {
        200 => b"HTTP/1.1 200 OK\r\n",
        _ => b"HTTP/1.1 404 Not Found\r\n",
    }
}

/// True if a block is a status line and whole lines of fields that do not frame the answer, so that
/// a client finds its end.
fn is_block(block: &[u8], rest: u32, shared: u32) -> bool {
    let (first, others) = block.split_at((rest as usize).min(block.len()));
    let middle = (shared - rest) as usize;
    let is_line = |line: &[u8]| {
        let name = line.split(|byte| *byte == b':').next().unwrap_or_default();
        let frames = [&b"content-length"[..], b"transfer-encoding", b"connection"];
        line.ends_with(b"\r")
            && name.len() + 2 < line.len()
            && !name.is_empty()
            && !frames.iter().any(|frame| name.eq_ignore_ascii_case(frame))
    };
    let are_lines = |part: &[u8]| {
        part.is_empty()
            || part
                .strip_suffix(b"\n")
                .is_some_and(|part| part.split(|byte| *byte == b'\n').all(is_line))
    };
    let (with_body, shared) = others.split_at(middle.min(others.len()));
    [200, 404].iter().any(|status| first == status_line(*status))
        && are_lines(with_body)
        && are_lines(shared)
}

fn resource(
    bytes: &[u8],
    variants: &[Variant],
    has_status: impl Fn(&Variant, u16) -> bool,
) -> Result<Resource, Flaw> {
    let (status, count, first) = (u16_at(bytes, 0), u16_at(bytes, 2), u32_at(bytes, 4));
    let modified = Some(u64_at(bytes, 8)).filter(|time| *time != u64::MAX);
    let start = first as usize;
    let own = variants.get(start..start.saturating_add(usize::from(count))).unwrap_or_default();
    let plain = own.first().is_some_and(|variant| variant.coding == Coding::Identity);
    ensure(plain, "the first variant of a resource is not the identity")?;
    ensure(matches!(status, 200 | 404), "invalid status of a resource")?;
    let agree = own.iter().all(|variant| has_status(variant, status));
    ensure(agree, "a header block does not fit its resource")?;
    Ok(Resource { status, count, first, modified })
}

fn entry(bytes: &[u8], text: &[u8], resources: &[Resource]) -> Result<Entry, Flaw> {
    let path = span_at(bytes, 0);
    ensure(is_within(text, path) && part(text, path).starts_with(b"/"), "invalid path")?;
    let number = u32_at(bytes, 12);
    let kind = match u32_at(bytes, 8) {
        0 if is_found(resources, number) => Kind::Resource(number),
        1 => Kind::AddSlash,
        2 => Kind::StripSlash,
        3 => Kind::StripHtml,
        _ => return Err(Flaw::Bounds("unknown kind of path")),
    };
    Ok(Entry { path, kind })
}

fn error_page(bytes: &[u8], text: &[u8], resources: &[Resource]) -> Result<ErrorPage, Flaw> {
    let (folder, resource) = (span_at(bytes, 0), u32_at(bytes, 8));
    ensure(
        is_within(text, folder) && part(text, folder).ends_with(b"/"),
        "invalid folder of an error page",
    )?;
    let found = resources.get(resource as usize).is_some_and(|found| found.status == 404);
    ensure(found, "invalid resource of an error page")?;
    Ok(ErrorPage { folder, resource })
}

fn is_found(resources: &[Resource], number: u32) -> bool {
    resources.get(number as usize).is_some_and(|found| found.status == 200)
}

fn is_within(text: &[u8], span: Span) -> bool {
    u64::from(span.start) + u64::from(span.len) <= text.len() as u64
}

/// Returns the bytes of a span whose bounds were checked.
fn part(text: &[u8], span: Span) -> &[u8] {
    text.get(span.start as usize..span.start as usize + span.len as usize).unwrap_or_default()
}
