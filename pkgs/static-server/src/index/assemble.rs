//! Files with their variants → [`Index`]: the paths, and the answer of each.
//!
//! Used for a folder after it was read, and for a pack when it is made.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::index::block::{Block, Facts, make};
use crate::index::policy::Policy;
use crate::index::store::Store;
use crate::index::{
    Body, Coding, Entry, ErrorPage, Index, Kind, PREPARED_BYTES_MAX, Prepared, Resource, Tag,
    TooLarge, Variant,
};
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
    /// The entity tag.
    pub tag: Tag,
}

/// The names of the two files with rules, which are not served.
pub const RULES: [&[u8]; 2] = [b"/_headers", b"/_redirects"];

const INDEX: &[u8] = b"index.html";
const ERROR: &[u8] = b"404.html";

/// Builds the index. The order of items does not matter.
pub fn assemble(
    items: &[Item],
    stores: Vec<Arc<Store>>,
    rules: Rules,
    policy: &Policy,
) -> Result<Index, TooLarge> {
    let index = Index { stores, rules, ..Index::default() };
    let mut assembly =
        Assembly { index, policy, blocks: HashMap::new(), block_bytes: 0, paths: BTreeMap::new() };
    let mut items: Vec<&Item> = items.iter().filter(|item| is_served(item)).collect();
    items.sort_by(|a, b| a.path.cmp(&b.path));
    for item in &items {
        assembly.file(item)?;
    }
    for item in &items {
        assembly.error_page(item)?;
    }
    assembly.fallback(&items)?;
    assembly.finished()
}

fn is_served(item: &Item) -> bool {
    !RULES.contains(&item.path.as_slice()) && !item.variants.is_empty()
}

struct Assembly<'a> {
    index: Index,
    policy: &'a Policy,
    /// The numbers of the header blocks, by everything that they are made from.
    blocks: HashMap<(Facts<'a>, Vec<Change>), u32>,
    /// The bytes of all header blocks.
    block_bytes: usize,
    /// The answer for each path. The first claim to a path wins.
    paths: BTreeMap<Vec<u8>, Kind>,
}

impl<'a> Assembly<'a> {
    /// Adds a file under its own path and, if it is an index page, under its folder's path.
    fn file(&mut self, item: &Item) -> Result<(), TooLarge> {
        let path = item.path.as_slice();
        let (folder, name) = split(path);
        if name == INDEX {
            let resource = self.resource(item, folder, 200)?;
            self.paths.insert(folder.to_vec(), Kind::Resource(resource));
            self.claim(without_slash(folder), Kind::AddSlash);
            if self.policy.clean_urls {
                self.paths.insert(path.to_vec(), Kind::StripHtml);
            } else {
                self.own_path(item, folder, resource)?;
            }
        } else if let Some(clean) = path.strip_suffix(b".html").filter(|_| self.policy.clean_urls) {
            let resource = self.resource(item, clean, 200)?;
            self.paths.insert(path.to_vec(), Kind::StripHtml);
            self.claim(clean, Kind::Resource(resource));
            self.claim(&[clean, b"/"].concat(), Kind::StripSlash);
        } else {
            let resource = self.resource(item, path, 200)?;
            self.paths.insert(path.to_vec(), Kind::Resource(resource));
        }
        Ok(())
    }

    /// Adds an index page's own path, which shares the folder's answer unless header rules treat
    /// the two paths differently.
    fn own_path(&mut self, item: &Item, folder: &[u8], resource: u32) -> Result<(), TooLarge> {
        let path = &item.path;
        let rules = &self.index.rules;
        let same = rules.early_changes(path) == rules.early_changes(folder);
        let own = if same { resource } else { self.resource(item, path, 200)? };
        self.paths.insert(path.clone(), Kind::Resource(own));
        Ok(())
    }

    /// Claims a path that is not the exact name of a file.
    fn claim(&mut self, path: &[u8], kind: Kind) {
        let free = self.paths.get(path).is_none_or(|found| !matches!(found, Kind::Resource(_)));
        if free && !path.is_empty() {
            self.paths.insert(path.to_vec(), kind);
        }
    }

    fn error_page(&mut self, item: &Item) -> Result<(), TooLarge> {
        let (folder, name) = split(&item.path);
        if name == ERROR {
            let resource = self.resource(item, &item.path, 404)?;
            let folder = self.index.push_text(folder)?;
            self.index.error_pages.push(ErrorPage { folder, resource });
        }
        Ok(())
    }

    /// Adds the root's index page as a fallback, without header rules, because they depend on the
    /// path of the request.
    fn fallback(&mut self, items: &[&Item]) -> Result<(), TooLarge> {
        let root = items.iter().find(|item| item.path == b"/index.html");
        if let Some(root) = root.filter(|_| self.policy.single_page) {
            self.index.fallback = Some(self.resource_with(root, &[], 200)?);
        }
        Ok(())
    }

    fn resource(&mut self, item: &Item, path: &[u8], status: u16) -> Result<u32, TooLarge> {
        let changes = match status {
            200 => self.index.rules.early_changes(path),
            _ => Vec::new(),
        };
        self.resource_with(item, &changes, status)
    }

    fn resource_with(
        &mut self,
        item: &Item,
        changes: &[Change],
        status: u16,
    ) -> Result<u32, TooLarge> {
        let first = number(self.index.variants.len())?;
        for encoded in &item.variants {
            let prepared = self.prepared(item, encoded.coding, changes, status)?;
            let Encoded { coding, body, tag } = *encoded;
            self.index.variants.push(Variant { coding, prepared, tag, body });
        }
        let count = u16::try_from(item.variants.len()).unwrap_or(1);
        let modified = item.modified.filter(|_| status == 200 && self.policy.last_modified);
        self.index.resources.push(Resource { status, count, first, modified });
        number(self.index.resources.len() - 1)
    }

    /// Returns the number of the header block for a variant. Equal blocks are made once.
    fn prepared(
        &mut self,
        item: &Item,
        coding: Coding,
        changes: &[Change],
        status: u16,
    ) -> Result<u32, TooLarge> {
        let policy: &'a Policy = self.policy;
        let cache_control =
            if status == 200 { policy.cache_control(&item.path) } else { "no-store" };
        let media_type = media_type(&item.path);
        let varies = item.variants.len() > 1;
        let facts = Facts { status, media_type, coding, cache_control, varies };
        let key = (facts, changes.to_vec());
        if let Some(known) = self.blocks.get(&key) {
            return Ok(*known);
        }
        let Block { bytes, rest, shared } = make(&facts, changes);
        self.block_bytes += bytes.len();
        if self.block_bytes > PREPARED_BYTES_MAX {
            return Err(TooLarge::Prepared);
        }
        let head = self.index.push_text(&bytes)?;
        let new = number(self.index.prepared.len())?;
        self.index.prepared.push(Prepared { head, rest, shared });
        self.blocks.insert(key, new);
        Ok(new)
    }

    fn finished(mut self) -> Result<Index, TooLarge> {
        for (path, kind) in std::mem::take(&mut self.paths) {
            let path = self.index.push_text(&path)?;
            self.index.entries.push(Entry { path, kind });
        }
        self.index.error_pages.sort_by_key(|page| std::cmp::Reverse(page.folder.len));
        self.index.text.shrink_to_fit();
        self.index.finish();
        Ok(self.index)
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

fn number(count: usize) -> Result<u32, TooLarge> {
    u32::try_from(count).map_err(|_| TooLarge::Paths)
}

#[cfg(test)]
mod tests;
