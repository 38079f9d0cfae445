//! Files with their variants → [`Index`]: the paths, and the answer of each.
//!
//! Used for a folder after it was read, and for a pack when it is made.

use std::collections::BTreeMap;

use crate::date::http_date;
use crate::index::block::{Block, Facts, make};
use crate::index::policy::Policy;
use crate::index::store::Store;
use crate::index::{Body, Coding, Entry, ErrorPage, Index, Kind, Resource, Span, Variant};
use crate::media::media_type;
use crate::rules::{Change, Rules};

/// A file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// The decoded path. Begins with a slash, and has no empty segment and no dot segment.
    pub path: Vec<u8>,
    /// The representations, identity first.
    pub variants: Vec<Encoded>,
    /// `Last-Modified`, in seconds since 1970.
    pub modified: Option<u64>,
}

/// A representation of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Encoded {
    /// The coding of the bytes.
    pub coding: Coding,
    /// The bytes.
    pub body: Body,
    /// The first half of the bytes' SHA-256, which becomes the entity tag.
    pub tag: Tag,
}

/// A digest that distinguishes contents.
pub type Tag = [u8; 16];

/// The names of the two files with rules, which are not served.
pub const RULES: [&[u8]; 2] = [b"/_headers", b"/_redirects"];

const INDEX: &[u8] = b"index.html";
const ERROR: &[u8] = b"404.html";

/// Builds the index. The order of items does not matter.
#[must_use]
pub fn assemble(items: &[Item], stores: Vec<Store>, rules: Rules, policy: &Policy) -> Index {
    let index = Index { stores, rules, ..Index::default() };
    let mut assembly = Assembly { index, policy, paths: BTreeMap::new() };
    let mut items: Vec<&Item> = items.iter().filter(|item| is_served(item)).collect();
    items.sort_by(|a, b| a.path.cmp(&b.path));
    for item in &items {
        assembly.file(item);
    }
    for item in &items {
        assembly.error_page(item);
    }
    assembly.fallback(&items);
    assembly.finished()
}

fn is_served(item: &Item) -> bool {
    !RULES.contains(&item.path.as_slice()) && !item.variants.is_empty()
}

struct Assembly<'a> {
    index: Index,
    policy: &'a Policy,
    /// The answer for each path. The first claim to a path wins.
    paths: BTreeMap<Vec<u8>, Kind>,
}

impl Assembly<'_> {
    /// Adds a file under its own path and, if it is an index page, under its folder's path.
    fn file(&mut self, item: &Item) {
        let path = item.path.as_slice();
        let (folder, name) = split(path);
        if name == INDEX {
            let resource = self.resource(item, folder, 200);
            self.paths.insert(folder.to_vec(), Kind::Resource(resource));
            self.claim(without_slash(folder), Kind::AddSlash);
            if self.policy.clean_urls {
                self.paths.insert(path.to_vec(), Kind::StripHtml);
            } else {
                self.own_path(item, folder, resource);
            }
        } else if let Some(clean) = path.strip_suffix(b".html").filter(|_| self.policy.clean_urls) {
            let resource = self.resource(item, clean, 200);
            self.paths.insert(path.to_vec(), Kind::StripHtml);
            self.claim(clean, Kind::Resource(resource));
            self.claim(&[clean, b"/"].concat(), Kind::StripSlash);
        } else {
            let resource = self.resource(item, path, 200);
            self.paths.insert(path.to_vec(), Kind::Resource(resource));
        }
    }

    /// Adds an index page's own path, which shares the folder's answer unless header rules treat
    /// the two paths differently.
    fn own_path(&mut self, item: &Item, folder: &[u8], resource: u32) {
        let path = &item.path;
        let same = self.index.rules.changes(path, None) == self.index.rules.changes(folder, None);
        let own = if same { resource } else { self.resource(item, path, 200) };
        self.paths.insert(path.clone(), Kind::Resource(own));
    }

    /// Claims a path that is not the exact name of a file.
    fn claim(&mut self, path: &[u8], kind: Kind) {
        let free = self.paths.get(path).is_none_or(|found| !matches!(found, Kind::Resource(_)));
        if free && !path.is_empty() {
            self.paths.insert(path.to_vec(), kind);
        }
    }

    fn error_page(&mut self, item: &Item) {
        let (folder, name) = split(&item.path);
        if name == ERROR {
            let resource = self.resource(item, &item.path, 404);
            let folder = self.index.push_text(folder);
            self.index.error_pages.push(ErrorPage { folder, resource });
        }
    }

    /// Adds the root's index page as a fallback, without header rules, because they depend on the
    /// path of the request.
    fn fallback(&mut self, items: &[&Item]) {
        let root = items.iter().find(|item| item.path == b"/index.html");
        if let Some(root) = root.filter(|_| self.policy.single_page) {
            self.index.fallback = Some(self.resource_with(root, &[], 200));
        }
    }

    fn resource(&mut self, item: &Item, path: &[u8], status: u16) -> u32 {
        let changes = match status {
            200 => self.index.rules.changes(path, None),
            _ => Vec::new(),
        };
        self.resource_with(item, &changes, status)
    }

    fn resource_with(&mut self, item: &Item, changes: &[Change], status: u16) -> u32 {
        let first = number(self.index.variants.len());
        for encoded in &item.variants {
            let variant = self.variant(item, encoded, changes, status);
            self.index.variants.push(variant);
        }
        let count = u16::try_from(item.variants.len()).unwrap_or(1);
        let modified = item.modified.filter(|_| self.policy.last_modified);
        self.index.resources.push(Resource { status, count, first, modified });
        number(self.index.resources.len() - 1)
    }

    fn variant(
        &mut self,
        item: &Item,
        encoded: &Encoded,
        changes: &[Change],
        status: u16,
    ) -> Variant {
        let found = status == 200;
        let etag = if found { tag_text(&encoded.tag) } else { String::new() };
        let modified = item.modified.filter(|_| found && self.policy.last_modified);
        let modified = modified.map(http_date).unwrap_or_default();
        let Block { bytes, rest, shared } = make(
            &Facts {
                status,
                length: encoded.body.len,
                media_type: media_type(&item.path),
                coding: encoded.coding,
                etag: &etag,
                modified: &modified,
                cache_control: if found {
                    self.policy.cache_control(&item.path)
                } else {
                    "no-store"
                },
                varies: item.variants.len() > 1,
            },
            changes,
        );
        let head = self.index.push_text(&bytes);
        let etag = find(&bytes, etag.as_bytes(), head);
        Variant { coding: encoded.coding, head, rest, shared, etag, body: encoded.body }
    }

    fn finished(mut self) -> Index {
        for (path, kind) in std::mem::take(&mut self.paths) {
            let path = self.index.push_text(&path);
            self.index.entries.push(Entry { path, kind });
        }
        self.index.error_pages.sort_by_key(|page| std::cmp::Reverse(page.folder.len));
        self.index.text.shrink_to_fit();
        self.index.finish();
        self.index
    }
}

/// Splits a path into its folder, with the slash, and its name.
fn split(path: &[u8]) -> (&[u8], &[u8]) {
    let slash = path.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
    path.split_at((slash + 1).min(path.len()))
}

fn without_slash(folder: &[u8]) -> &[u8] {
    folder.strip_suffix(b"/").unwrap_or(folder)
}

fn number(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// Returns the span of the entity tag in a block.
fn find(block: &[u8], etag: &[u8], head: Span) -> Span {
    let Some(first) = etag.first() else { return Span::default() };
    let mut parts = block.windows(etag.len());
    let place = parts.position(|part| part.first() == Some(first) && part == etag);
    place.map_or(Span::default(), |place| Span {
        start: head.start + number(place),
        len: number(etag.len()),
    })
}

/// Formats a strong entity tag.
#[must_use]
pub fn tag_text(tag: &Tag) -> String {
    let mut text = String::with_capacity(2 * tag.len() + 2);
    text.push('"');
    for byte in tag {
        for half in [byte >> 4, byte & 15] {
            text.push(char::from(b"0123456789abcdef"[usize::from(half)]));
        }
    }
    text.push('"');
    text
}

#[cfg(test)]
mod tests;
