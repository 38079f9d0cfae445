//! Every file's bytes in a folder → items for [`crate::index::assemble`].
//!
//! The bytes go into one region of memory; equal files are stored once. Above the memory limit the
//! largest files stay open instead, because an open file still exists after its name is removed.
//! Nothing is compressed here: a file with the extension `.br`, `.zst` or `.gz` is the coded form
//! of the file next to it, unless it is older by more than two seconds.

use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use rustix::fs::Stat;
use sha2::{Digest as _, Sha256};

use crate::folder::walk::{Place, Signature, Survey, Trouble, Visitor, survey, walk};
use crate::index::assemble::{Encoded, Item, RULES, assemble};
use crate::index::policy::Policy;
use crate::index::store::{Filling, OWN_FROM, Store};
use crate::index::{Body, Coding, Index, Tag, TooLarge};
use crate::rules::{BadSize, Complaint, Rules, check_size};

/// A coded file may be this much older than its original, in nanoseconds: tools that write both do
/// so in any order, and some archives store times in steps of two seconds.
const SIDECAR_AGE_MAX: i128 = 2_000_000_000;

/// The most bodies with memory of their own. Each has a mapping, of which a process may have 65,530.
const OWN_MAX: usize = 1024;

/// Up to this memory limit, addresses are reserved without determining the size of the folder
/// first.
const EASY_BYTES_MAX: u64 = 256 << 20;

/// The limits of content that is kept in memory or open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The most bytes in memory.
    pub memory: u64,
    /// The most files that stay open.
    pub open_files: usize,
}

/// The content of a folder.
#[derive(Debug)]
pub struct Scan {
    /// The files.
    pub items: Vec<Item>,
    /// The bytes of the files.
    pub stores: Vec<Arc<Store>>,
    /// `_headers` and `_redirects`.
    pub rules: Rules,
    /// The invalid lines of `_headers` and `_redirects`.
    pub complaints: Vec<Complaint>,
    /// Names without content, with the reasons.
    pub left_out: Vec<LeftOut>,
    /// The state of the folder.
    pub signature: Signature,
    /// The latest change of any file, in nanoseconds since 1970. If this is about the time of the
    /// scan, a later change may have the same time.
    pub newest: i128,
}

/// A name without content.
#[derive(Debug, PartialEq, Eq)]
pub struct LeftOut {
    /// The path.
    pub path: Vec<u8>,
    /// The reason why it cannot be read; `None` for a link that leaves the folder, dangles or
    /// loops.
    pub error: Option<String>,
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = String::from_utf8_lossy(&self.path);
        match &self.error {
            None => write!(
                f,
                "{path} is a link that leaves the folder, dangles or loops, or not a file; left out"
            ),
            Some(error) => write!(f, "{path} cannot be read: {error}"),
        }
    }
}

impl Scan {
    /// Builds the index.
    pub fn into_index(self, policy: &Policy) -> Result<Index, TooLarge> {
        let unread = self.left_out.iter().filter(|left| left.error.is_some()).count();
        let mut index = assemble(&self.items, self.stores, self.rules, policy)?;
        index.unread = u32::try_from(unread).unwrap_or(u32::MAX);
        Ok(index)
    }
}

/// Reads a whole folder. Large bodies that `old` has too are shared with it.
pub fn scan(root: &Path, limits: &Limits, old: Option<&Index>) -> anyhow::Result<Scan> {
    let opening = || format!("cannot open the folder {}", root.display());
    let reading = || format!("cannot read {}", root.display());
    if limits.memory <= EASY_BYTES_MAX {
        let mut reader = Reader::new(limits.memory, u64::MAX, limits.open_files, old)?;
        let signature = walk(root, &mut reader).with_context(opening)?;
        if !reader.is_full {
            return reader.finished(signature).with_context(reading);
        }
    }
    let Survey { sizes, .. } = survey(root).with_context(opening)?;
    let (memory, open_from) = split(sizes, limits)
        .with_context(|| format!("{} has more content than the limits allow", root.display()))?;
    let mut reader = Reader::new(memory, open_from, limits.open_files, old)?;
    let signature = walk(root, &mut reader).with_context(opening)?;
    if reader.is_full {
        bail!("{} grew while it was read", root.display());
    }
    reader.finished(signature).with_context(reading)
}

/// Decides which files stay open: the largest ones, until the others fit. Returns the bytes for
/// memory and the smallest size of an open file.
fn split(mut sizes: Vec<u64>, limits: &Limits) -> anyhow::Result<(u64, u64)> {
    sizes.sort_unstable_by(|a, b| b.cmp(a));
    let mut memory: u64 = sizes.iter().sum();
    let mut open_from = u64::MAX;
    let mut open = 0;
    for size in sizes {
        if memory <= limits.memory && size < open_from {
            break;
        }
        (memory, open_from, open) = (memory - size, size, open + 1);
    }
    if open > limits.open_files {
        bail!(
            "{open} files would have to stay open, but only {} may; raise the limit of memory or descriptors",
            limits.open_files
        );
    }
    Ok((memory, open_from))
}

/// A file that was read.
struct Found {
    encoded: Encoded,
    /// Nanoseconds since 1970.
    modified: i128,
}

struct Reader {
    filling: Filling,
    /// The number of bytes that may still go into memory.
    room: u64,
    open_from: u64,
    is_full: bool,
    /// Stores with one body each.
    own: Vec<Arc<Store>>,
    /// The most of them that are in memory. Each has a descriptor.
    own_max: usize,
    /// The stores of the content that is in force, by the tags of their bodies.
    old: HashMap<Tag, Arc<Store>>,
    bodies: HashMap<Tag, Body>,
    files: Vec<(Vec<u8>, Found)>,
    rules: [Vec<u8>; 2],
    bad_rules: Option<BadSize>,
    left_out: Vec<LeftOut>,
    newest: i128,
}

impl Reader {
    fn new(
        memory: u64,
        open_from: u64,
        open_files: usize,
        old: Option<&Index>,
    ) -> anyhow::Result<Self> {
        let variants = old.into_iter().flat_map(|old| {
            let own = |variant| Some((old.own_store(variant)?, variant.tag));
            old.variants.iter().filter_map(own)
        });
        // Large bodies are page-aligned, which takes up to an eighth more.
        let room = memory.saturating_add(memory / 8).saturating_add(EASY_BYTES_MAX / 256);
        Ok(Self {
            filling: Filling::with_room(room).context("cannot allocate memory for the content")?,
            room: memory,
            open_from,
            is_full: false,
            own: Vec::new(),
            own_max: (open_files / 2).min(OWN_MAX),
            old: variants.map(|(store, tag)| (tag, Arc::clone(store))).collect(),
            bodies: HashMap::new(),
            files: Vec::new(),
            rules: [Vec::new(), Vec::new()],
            bad_rules: None,
            left_out: Vec::new(),
            newest: 0,
        })
    }

    fn read(&mut self, path: &[u8], mut file: File, stat: &Stat) -> io::Result<()> {
        let len = u64::try_from(stat.st_size).unwrap_or(0);
        if let Some(number) = RULES.iter().position(|name| *name == path) {
            if let Err(bad) = check_size(path, len) {
                self.bad_rules = Some(bad);
                return Ok(());
            }
            let text = &mut self.rules[number];
            if file.take(len + 1).read_to_end(text)? as u64 != len {
                text.clear();
                return Err(io::Error::other("it changed while it was read"));
            }
            return Ok(());
        }
        let (tag, body) = if len >= self.open_from {
            self.keep_open(file, len)?
        } else if len > self.room {
            self.is_full = true;
            return Ok(());
        } else if len >= OWN_FROM && self.own.len() < self.own_max {
            self.remember_alone(&mut file, len)?
        } else {
            self.remember(&mut file, len)?
        };
        let encoded = Encoded { coding: Coding::Identity, body, tag };
        let modified = nanos(stat.st_mtime, stat.st_mtime_nsec);
        self.files.push((path.to_vec(), Found { encoded, modified }));
        Ok(())
    }

    fn remember(&mut self, file: &mut File, len: u64) -> io::Result<(Tag, Body)> {
        let (start, bytes) = self.filling.read(file, len)?;
        let tag = short(&Sha256::digest(bytes));
        let body = Body { store: 0, start, len };
        let known = *self.bodies.entry(tag).or_insert(body);
        if known == body {
            self.room -= len;
        } else {
            self.filling.take_back(start);
        }
        Ok((tag, known))
    }

    /// Reads a large body into a store of its own, unless the same body is known.
    fn remember_alone(&mut self, file: &mut File, len: u64) -> io::Result<(Tag, Body)> {
        let mut filling = Filling::for_one(len)?;
        let (_, bytes) = filling.read(file, len)?;
        let tag = short(&Sha256::digest(bytes));
        if let Some(known) = self.bodies.get(&tag) {
            return Ok((tag, *known));
        }
        self.room -= len;
        let store = match self.old.get(&tag) {
            Some(known) => Arc::clone(known),
            None => Arc::new(Store::Memory(filling.seal()?)),
        };
        let body = self.add_own(store, len)?;
        self.bodies.insert(tag, body);
        Ok((tag, body))
    }

    fn add_own(&mut self, store: Arc<Store>, len: u64) -> io::Result<Body> {
        self.own.push(store);
        let store = u32::try_from(self.own.len()).map_err(io::Error::other)?;
        Ok(Body { store, start: 0, len })
    }

    fn keep_open(&mut self, mut file: File, len: u64) -> io::Result<(Tag, Body)> {
        let mut hasher = Sha256::new();
        let mut buffer = vec![0; 64 << 10];
        let mut total = 0;
        loop {
            let count = file.read(&mut buffer)?;
            if count == 0 {
                break;
            }
            hasher.update(&buffer[..count]);
            total += count as u64;
        }
        if total != len {
            return Err(io::Error::other("it changed while it was read"));
        }
        let body = self.add_own(Arc::new(Store::File(file)), len)?;
        Ok((short(&hasher.finalize()), body))
    }

    fn finished(self, signature: Signature) -> anyhow::Result<Scan> {
        if let Some(bad) = self.bad_rules {
            return Err(bad.into());
        }
        let region = self.filling.seal().context("cannot seal the memory of the content")?;
        let mut stores = vec![Arc::new(Store::Memory(region))];
        stores.extend(self.own);
        let (rules, complaints) = Rules::parse(&self.rules[0], &self.rules[1]);
        let mut left_out = self.left_out;
        left_out.sort_by(|a, b| a.path.cmp(&b.path));
        let items = items(self.files);
        let newest = self.newest;
        Ok(Scan { items, stores, rules, complaints, left_out, signature, newest })
    }
}

impl Visitor for Reader {
    fn file(&mut self, path: &[u8], place: &Place<'_>, stat: &Stat) -> Result<(), Trouble> {
        self.newest = self.newest.max(nanos(stat.st_ctime, stat.st_ctime_nsec));
        if self.is_full {
            return Ok(());
        }
        Ok(self.read(path, place.open()?, stat)?)
    }

    fn trouble(&mut self, path: &[u8], trouble: Trouble) {
        let error = match trouble {
            Trouble::Nowhere => None,
            Trouble::Unreadable(error) => Some(error.to_string()),
        };
        self.left_out.push(LeftOut { path: path.to_vec(), error });
    }
}

/// Combines files with their coded forms.
fn items(mut files: Vec<(Vec<u8>, Found)>) -> Vec<Item> {
    files.sort_by(|(a, _), (b, _)| a.cmp(b));
    let variants: Vec<Vec<Encoded>> = {
        let extensions = || Coding::ALL.iter().skip(1).map(|coding| coding.extension().as_bytes());
        let is_coded = |path: &[u8]| extensions().any(|extension| path.ends_with(extension));
        let coded = files.iter().filter(|(path, _)| is_coded(path));
        let coded: HashMap<&[u8], &Found> = coded.map(|(path, file)| (&path[..], file)).collect();
        files.iter().map(|(path, found)| variants(path, found, &coded)).collect()
    };
    let item = |((path, found), variants): ((Vec<u8>, Found), _)| {
        let modified = u64::try_from(found.modified / 1_000_000_000).ok();
        Item { path, variants, modified }
    };
    files.into_iter().zip(variants).map(item).collect()
}

/// Returns a file's bytes and its coded forms.
fn variants(path: &[u8], found: &Found, coded: &HashMap<&[u8], &Found>) -> Vec<Encoded> {
    let sidecar = |coding: &Coding| {
        let name = [path, coding.extension().as_bytes()].concat();
        let sidecar = coded.get(&name[..])?;
        let is_current = sidecar.modified + SIDECAR_AGE_MAX >= found.modified;
        let usable = is_current && sidecar.encoded.body.len > 0;
        usable.then_some(Encoded { coding: *coding, ..sidecar.encoded })
    };
    let sidecars = Coding::ALL.iter().skip(1).filter(|_| !coded.is_empty()).filter_map(sidecar);
    std::iter::once(found.encoded).chain(sidecars).collect()
}

fn nanos(seconds: i64, nanos: impl TryInto<i128>) -> i128 {
    i128::from(seconds) * 1_000_000_000 + nanos.try_into().unwrap_or(0)
}

fn short(digest: &[u8]) -> Tag {
    let mut tag = Tag::default();
    let half = tag.len();
    tag.copy_from_slice(&digest[..half]);
    tag
}

#[cfg(test)]
mod tests;
