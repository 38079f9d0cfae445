//! Files with their variants → [`Index`]: the paths, and the answer of each.
//!
//! Used for a folder after it was read, and for a pack when it is made.

use std::collections::HashMap;
use std::sync::Arc;

use crate::index::block::{Block, Facts, make};
use crate::index::policy::Policy;
use crate::index::store::Store;
use crate::index::table::Table;
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

/// A file whose parts are stored elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct View<'a> {
    /// See [`Item::path`].
    pub path: &'a [u8],
    /// See [`Item::variants`].
    pub variants: &'a [Encoded],
    /// See [`Item::modified`].
    pub modified: Option<u64>,
}

impl Item {
    /// Returns the item as a view.
    #[must_use]
    pub fn view(&self) -> View<'_> {
        View { path: &self.path, variants: &self.variants, modified: self.modified }
    }
}

/// Builds the index. The order of items does not matter.
pub fn assemble(
    items: &[Item],
    stores: Vec<Arc<Store>>,
    rules: Rules,
    policy: &Policy,
) -> Result<Index, TooLarge> {
    let mut items: Vec<View<'_>> = items.iter().map(Item::view).collect();
    items.sort_by(|a, b| a.path.cmp(b.path));
    assemble_sorted(items.into_iter(), stores, rules, policy)
}

/// Builds the index from files that are sorted by path.
pub fn assemble_sorted<'a>(
    items: impl Iterator<Item = View<'a>> + Clone,
    stores: Vec<Arc<Store>>,
    rules: Rules,
    policy: &Policy,
) -> Result<Index, TooLarge> {
    let items = items.filter(is_served);
    let mut assembly = Assembly::new(&items, stores, rules, policy);
    for item in items.clone() {
        assembly.file(&item)?;
    }
    for item in items.clone() {
        assembly.error_page(&item)?;
    }
    assembly.fallback(items)?;
    Ok(assembly.finished())
}

fn is_served(item: &View<'_>) -> bool {
    !RULES.contains(&item.path) && !item.variants.is_empty()
}

struct Assembly<'a> {
    /// The index. Its table has the paths of all entries so far.
    index: Index,
    policy: &'a Policy,
    /// The numbers of the header blocks, by everything that they are made from.
    blocks: HashMap<Facts<'a>, HashMap<Vec<Change>, u32>>,
    /// The header block that was needed last, which most files of a folder share.
    last: Option<(Facts<'a>, Vec<Change>, u32)>,
    /// The bytes of all header blocks.
    block_bytes: usize,
}

impl<'a> Assembly<'a> {
    fn new<'b>(
        items: &(impl Iterator<Item = View<'b>> + Clone),
        stores: Vec<Arc<Store>>,
        rules: Rules,
        policy: &'a Policy,
    ) -> Self {
        let mut index = Index { stores, rules, ..Index::default() };
        let (mut paths, mut resources, mut variants) = (0, 0, 0);
        for item in items.clone() {
            // A page may have three paths: its own, and clean ones with and without a slash.
            paths += if item.path.ends_with(b".html") { 3 } else { 1 };
            resources += 1;
            variants += item.variants.len();
        }
        index.table = Table::with_room(paths);
        index.entries.reserve_exact(paths);
        index.resources.reserve_exact(resources);
        index.variants.reserve_exact(variants);
        Self { index, policy, blocks: HashMap::new(), last: None, block_bytes: 0 }
    }

    /// Adds a file under its own path and, if it is an index page, under its folder's path.
    fn file(&mut self, item: &View<'_>) -> Result<(), TooLarge> {
        let path = item.path;
        let (folder, name) = split(path);
        if name == INDEX {
            let resource = self.resource(item, folder, 200)?;
            self.insert(folder, Kind::Resource(resource))?;
            self.claim(without_slash(folder), Kind::AddSlash)?;
            if self.policy.clean_urls {
                self.insert(path, Kind::StripHtml)?;
            } else {
                self.own_path(item, folder, resource)?;
            }
        } else if let Some(clean) = path.strip_suffix(b".html").filter(|_| self.policy.clean_urls) {
            let resource = self.resource(item, clean, 200)?;
            self.insert(path, Kind::StripHtml)?;
            self.claim(clean, Kind::Resource(resource))?;
            self.claim(&[clean, b"/"].concat(), Kind::StripSlash)?;
        } else {
            let resource = self.resource(item, path, 200)?;
            self.insert(path, Kind::Resource(resource))?;
        }
        Ok(())
    }

    /// Adds an index page's own path, which shares the folder's answer unless header rules treat
    /// the two paths differently.
    fn own_path(&mut self, item: &View<'_>, folder: &[u8], resource: u32) -> Result<(), TooLarge> {
        let path = item.path;
        let rules = &self.index.rules;
        let same = rules.early_changes(path) == rules.early_changes(folder);
        let own = if same { resource } else { self.resource(item, path, 200)? };
        self.insert(path, Kind::Resource(own))
    }

    /// Claims a path that is not the exact name of a file.
    fn claim(&mut self, path: &[u8], kind: Kind) -> Result<(), TooLarge> {
        let free = !matches!(self.index.find(path), Some(Kind::Resource(_)));
        if free && !path.is_empty() { self.insert(path, kind) } else { Ok(()) }
    }

    /// Sets the answer for a path.
    fn insert(&mut self, path: &[u8], kind: Kind) -> Result<(), TooLarge> {
        if let Some(known) = self.index.number(path) {
            self.index.entries[known as usize].kind = kind;
            return Ok(());
        }
        let new = number(self.index.entries.len())?;
        self.index.table.insert(new, path);
        let path = self.index.push_text(path)?;
        self.index.entries.push(Entry { path, kind });
        Ok(())
    }

    fn error_page(&mut self, item: &View<'_>) -> Result<(), TooLarge> {
        let (folder, name) = split(item.path);
        if name == ERROR {
            let resource = self.resource(item, item.path, 404)?;
            let folder = self.index.push_text(folder)?;
            self.index.error_pages.push(ErrorPage { folder, resource });
        }
        Ok(())
    }

    /// Adds the root's index page as a fallback, without header rules, because they depend on the
    /// path of the request.
    fn fallback<'b>(&mut self, items: impl Iterator<Item = View<'b>>) -> Result<(), TooLarge> {
        if self.policy.single_page
            && let Some(root) = { items }.find(|item| item.path == b"/index.html")
        {
            self.index.fallback = Some(self.resource_with(&root, &[], 200)?);
        }
        Ok(())
    }

    fn resource(&mut self, item: &View<'_>, path: &[u8], status: u16) -> Result<u32, TooLarge> {
        let changes = match status {
            200 => self.index.rules.early_changes(path),
            _ => Vec::new(),
        };
        self.resource_with(item, &changes, status)
    }

    fn resource_with(
        &mut self,
        item: &View<'_>,
        changes: &[Change],
        status: u16,
    ) -> Result<u32, TooLarge> {
        let first = number(self.index.variants.len())?;
        for encoded in item.variants {
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
        item: &View<'_>,
        coding: Coding,
        changes: &[Change],
        status: u16,
    ) -> Result<u32, TooLarge> {
        let policy: &'a Policy = self.policy;
        let cache_control =
            if status == 200 { policy.cache_control(item.path) } else { "no-store" };
        let media_type = media_type(item.path);
        let varies = item.variants.len() > 1;
        let facts = Facts { status, media_type, coding, cache_control, varies };
        if let Some((last, with, known)) = &self.last
            && *last == facts
            && with == changes
        {
            return Ok(*known);
        }
        let known = self.blocks.get(&facts).and_then(|known| known.get(changes)).copied();
        let number = known.map_or_else(|| self.new_block(&facts, changes), Ok)?;
        self.last = Some((facts, changes.to_vec(), number));
        Ok(number)
    }

    fn new_block(&mut self, facts: &Facts<'a>, changes: &[Change]) -> Result<u32, TooLarge> {
        let Block { bytes, rest, shared } = make(facts, changes);
        self.block_bytes += bytes.len();
        if self.block_bytes > PREPARED_BYTES_MAX {
            return Err(TooLarge::Prepared);
        }
        let head = self.index.push_text(&bytes)?;
        let new = number(self.index.prepared.len())?;
        self.index.prepared.push(Prepared { head, rest, shared });
        self.blocks.entry(*facts).or_default().insert(changes.to_vec(), new);
        Ok(new)
    }

    fn finished(mut self) -> Index {
        let index = &mut self.index;
        index.error_pages.sort_by_key(|page| std::cmp::Reverse(page.folder.len));
        index.text.shrink_to_fit();
        index.entries.shrink_to_fit();
        index.resources.shrink_to_fit();
        index.variants.shrink_to_fit();
        if index.table.is_large_for(index.entries.len()) {
            index.finish();
        }
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

fn number(count: usize) -> Result<u32, TooLarge> {
    u32::try_from(count).map_err(|_| TooLarge::Paths)
}

#[cfg(test)]
mod tests;
