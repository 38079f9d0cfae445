//! [`Index`] → bytes of a pack, as a pure function: equal indexes and bodies give equal bytes.

use std::io;

use crate::index::{Entry, Index, Kind, Prepared, Resource, Span, Variant};
use crate::pack::layout::{Blob, HEADER, Header, LARGE, NONE, PAGE};
use crate::pack::read::checksum;

/// Header, index, and the places of the bodies.
#[derive(Debug)]
pub struct Plan {
    /// The first bytes of the file.
    pub head: Vec<u8>,
    /// Each body with its offset in the file, in the order of the blobs.
    pub blobs: Vec<Blob>,
    /// The bytes of the whole file.
    pub len: u64,
}

/// Plans the layout of a pack. A variant's `body.start` is the number of its blob. Blobs must be in
/// the order of [`order`]; their offsets are ignored.
pub fn plan(index: &Index, blobs: &[Blob]) -> io::Result<Plan> {
    let mut header = Header {
        blobs: number(blobs.len())?,
        resources: number(index.resources.len())?,
        variants: number(index.variants.len())?,
        entries: number(index.entries.len())?,
        error_pages: number(index.error_pages.len())?,
        prepared: number(index.prepared.len())?,
        fallback: index.fallback.unwrap_or(NONE),
        text: number(index.text.len())?,
        headers: number(index.rules.headers_text.len())?,
        redirects: number(index.rules.redirects_text.len())?,
        ..Header::default()
    };
    header.small = HEADER as u64 + header.index();
    header.large = header.small;
    let mut end = header.small;
    let mut placed = Vec::with_capacity(blobs.len());
    for blob in blobs {
        let start = if is_large(blob) { end.next_multiple_of(PAGE) } else { end };
        end = start + blob.len;
        if !is_large(blob) {
            header.large = end;
        }
        placed.push(Blob { start, ..*blob });
    }
    header.file = end;
    let tables = tables(index, &placed);
    let head = header.bytes();
    let sum = checksum(&head, &tables);
    Ok(Plan { head: [&head[..], &sum, &tables].concat(), blobs: placed, len: end })
}

/// Returns the sort key of a blob: small blobs first, then by digest, so that the order does not
/// depend on names.
#[must_use]
pub fn order(blob: &Blob) -> (bool, [u8; 32]) {
    (is_large(blob), blob.sha256)
}

const fn is_large(blob: &Blob) -> bool {
    blob.len >= LARGE
}

fn number(count: usize) -> io::Result<u32> {
    let fits = u32::try_from(count).ok().filter(|count| *count != NONE);
    fits.ok_or_else(|| io::Error::other("the site has too many files for a pack"))
}

fn tables(index: &Index, blobs: &[Blob]) -> Vec<u8> {
    let mut out = Vec::new();
    for blob in blobs {
        put64(&mut out, &[blob.start, blob.len]);
        out.extend_from_slice(&blob.sha256);
    }
    index.resources.iter().for_each(|one| resource(&mut out, one));
    index.variants.iter().for_each(|one| variant(&mut out, one));
    let mut entries = index.entries.clone();
    entries.sort_by(|a, b| index.bytes(a.path).cmp(index.bytes(b.path)));
    for one in &entries {
        entry(&mut out, one);
    }
    for page in &index.error_pages {
        span(&mut out, page.folder);
        put32(&mut out, &[page.resource, 0]);
    }
    index.prepared.iter().for_each(|one| prepared(&mut out, one));
    out.extend_from_slice(&index.text);
    out.extend_from_slice(&index.rules.headers_text);
    out.extend_from_slice(&index.rules.redirects_text);
    out
}

fn resource(out: &mut Vec<u8>, resource: &Resource) {
    out.extend_from_slice(&resource.status.to_le_bytes());
    out.extend_from_slice(&resource.count.to_le_bytes());
    put32(out, &[resource.first]);
    put64(out, &[resource.modified.unwrap_or(u64::MAX)]);
}

fn variant(out: &mut Vec<u8>, variant: &Variant) {
    let blob = u32::try_from(variant.body.start).unwrap_or(NONE);
    put32(out, &[variant.prepared, blob, variant.coding as u32, 0]);
}

fn prepared(out: &mut Vec<u8>, prepared: &Prepared) {
    span(out, prepared.head);
    put32(out, &[prepared.rest, prepared.shared]);
}

fn entry(out: &mut Vec<u8>, entry: &Entry) {
    span(out, entry.path);
    let (kind, number) = match entry.kind {
        Kind::Resource(number) => (0, number),
        Kind::AddSlash => (1, 0),
        Kind::StripSlash => (2, 0),
        Kind::StripHtml => (3, 0),
    };
    put32(out, &[kind, number]);
}

fn span(out: &mut Vec<u8>, span: Span) {
    put32(out, &[span.start, span.len]);
}

fn put32(out: &mut Vec<u8>, numbers: &[u32]) {
    for number in numbers {
        out.extend_from_slice(&number.to_le_bytes());
    }
}

fn put64(out: &mut Vec<u8>, numbers: &[u64]) {
    for number in numbers {
        out.extend_from_slice(&number.to_le_bytes());
    }
}
