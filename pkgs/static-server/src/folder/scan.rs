//! Every file's bytes in a folder → files for [`crate::index::assemble`].
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

use crate::folder::crew::threads;
use crate::folder::shelf::Shelf;
use crate::folder::walk::{Signature, Survey, Trouble, Visitor, survey, walk};
use crate::index::assemble::{Encoded, RULES, View, assemble_sorted};
use crate::index::policy::Policy;
use crate::index::store::Store;
use crate::index::{Coding, Index, Span, TooLarge};
use crate::rules::{BadSize, Complaint, Rules, check_size};

/// A coded file may be this much older than its original, in nanoseconds: tools that write both do
/// so in any order, and some archives store times in steps of two seconds.
const SIDECAR_AGE_MAX: i64 = 2_000_000_000;

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
    pub files: Files,
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

/// The files of a folder, sorted by path. They take few allocations, because a folder may have
/// hundreds of thousands.
#[derive(Debug, Default)]
pub struct Files {
    /// All paths.
    text: Vec<u8>,
    list: Vec<Listed>,
    /// All variants, those of a file one after another.
    variants: Vec<Encoded>,
}

#[derive(Debug, Clone, Copy)]
struct Listed {
    path: Span,
    /// The number of the first variant in [`Files::variants`].
    first: usize,
    /// The number of variants.
    count: usize,
    /// Seconds since 1970.
    modified: Option<u64>,
}

impl Files {
    /// Returns the number of files.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.list.len()
    }

    /// True if there is no file.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Returns all files.
    pub fn iter(&self) -> impl Iterator<Item = View<'_>> + Clone {
        self.list.iter().map(|listed| View {
            path: part(&self.text, listed.path),
            variants: &self.variants[listed.first..listed.first + listed.count],
            modified: listed.modified,
        })
    }
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
        let Self { files, stores, rules, .. } = self;
        let mut index = assemble_sorted(files.iter(), stores, rules, policy)?;
        index.unread = u32::try_from(unread).unwrap_or(u32::MAX);
        Ok(index)
    }
}

/// Reads a whole folder. Large bodies that `old` has too are shared with it.
pub fn scan(root: &Path, limits: &Limits, old: Option<&Index>) -> anyhow::Result<Scan> {
    if limits.memory <= EASY_BYTES_MAX
        && let Some(scan) = attempt(root, limits.memory, u64::MAX, limits.open_files, old)?
    {
        return Ok(scan);
    }
    let Survey { sizes, .. } = survey(root, threads())
        .with_context(|| format!("cannot open the folder {}", root.display()))?;
    let (memory, open_from) = split(sizes, limits)
        .with_context(|| format!("{} has more content than the limits allow", root.display()))?;
    match attempt(root, memory, open_from, limits.open_files, old)? {
        Some(scan) => Ok(scan),
        None => bail!("{} grew while it was read", root.display()),
    }
}

/// Reads a folder; `None` if its files take more memory.
fn attempt(
    root: &Path,
    memory: u64,
    open_from: u64,
    open_files: usize,
    old: Option<&Index>,
) -> anyhow::Result<Option<Scan>> {
    let shelf = Shelf::new(memory, open_from, open_files, old)?;
    let (signature, parts) = walk(root, threads(), || Reader::new(&shelf))
        .with_context(|| format!("cannot open the folder {}", root.display()))?;
    let parts: Vec<Part> = parts.into_iter().map(|reader| reader.part).collect();
    if shelf.is_full() {
        return Ok(None);
    }
    let scan = finished(parts, shelf, signature);
    scan.map(Some).with_context(|| format!("cannot read {}", root.display()))
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
#[derive(Debug, Clone, Copy)]
struct Found {
    /// The path in [`Part::text`].
    path: Span,
    encoded: Encoded,
    /// Nanoseconds since 1970.
    modified: i64,
}

/// The files that one thread has read.
#[derive(Default)]
struct Part {
    text: Vec<u8>,
    files: Vec<Found>,
    rules: [Vec<u8>; 2],
    bad_rules: Option<BadSize>,
    left_out: Vec<LeftOut>,
    newest: i128,
}

struct Reader<'a> {
    shelf: &'a Shelf,
    buffer: Vec<u8>,
    part: Part,
}

impl<'a> Reader<'a> {
    fn new(shelf: &'a Shelf) -> Self {
        Self { shelf, buffer: Vec::new(), part: Part::default() }
    }

    fn read(&mut self, path: &[u8], file: File, stat: &Stat) -> io::Result<()> {
        let len = u64::try_from(stat.st_size).unwrap_or(0);
        if let Some(number) = RULES.iter().position(|name| *name == path) {
            return self.part.read_rules(number, file, len);
        }
        let Some((tag, body)) = self.shelf.add(file, len, &mut self.buffer)? else { return Ok(()) };
        let encoded = Encoded { coding: Coding::Identity, body, tag };
        let modified = nanos(stat.st_mtime, stat.st_mtime_nsec);
        let modified = i64::try_from(modified).unwrap_or(i64::MAX);
        let path = push(&mut self.part.text, path).map_err(io::Error::other)?;
        self.part.files.push(Found { path, encoded, modified });
        Ok(())
    }
}

impl Part {
    fn read_rules(&mut self, number: usize, file: File, len: u64) -> io::Result<()> {
        if let Err(bad) = check_size(RULES[number], len) {
            self.bad_rules = Some(bad);
            return Ok(());
        }
        let text = &mut self.rules[number];
        if file.take(len + 1).read_to_end(text)? as u64 != len {
            text.clear();
            return Err(io::Error::other("it changed while it was read"));
        }
        Ok(())
    }

    fn sort(&mut self) {
        let Self { text, files, .. } = self;
        files.sort_unstable_by(|a, b| part(text, a.path).cmp(part(text, b.path)));
    }

    /// Adds the files of another thread. All files must be sorted afterwards.
    fn add(&mut self, other: Self) -> Result<(), TooLarge> {
        let start = push(&mut self.text, &other.text)?.start;
        self.files.extend(other.files.into_iter().map(|mut found| {
            found.path.start += start;
            found
        }));
        for (own, other) in self.rules.iter_mut().zip(other.rules) {
            if own.is_empty() {
                *own = other;
            }
        }
        self.bad_rules = self.bad_rules.take().or(other.bad_rules);
        self.left_out.extend(other.left_out);
        self.newest = self.newest.max(other.newest);
        Ok(())
    }
}

impl Visitor for Reader<'_> {
    const OPENS: bool = true;

    fn file(&mut self, path: &[u8], file: Option<File>, stat: &Stat) -> Result<(), Trouble> {
        self.part.newest = self.part.newest.max(nanos(stat.st_ctime, stat.st_ctime_nsec));
        match file {
            Some(file) if !self.shelf.is_full() => Ok(self.read(path, file, stat)?),
            _ => Ok(()),
        }
    }

    fn trouble(&mut self, path: &[u8], trouble: Trouble) {
        let error = match trouble {
            Trouble::Nowhere => None,
            Trouble::Unreadable(error) => Some(error.to_string()),
        };
        self.part.left_out.push(LeftOut { path: path.to_vec(), error });
    }

    fn finish(&mut self) {
        self.part.sort();
        self.buffer = Vec::new();
    }
}

/// Combines what the threads have read.
fn finished(parts: Vec<Part>, shelf: Shelf, signature: Signature) -> anyhow::Result<Scan> {
    let mut all = Part::default();
    for part in parts {
        all.add(part)?;
    }
    if let Some(bad) = all.bad_rules {
        return Err(bad.into());
    }
    let Part { text, mut files, rules, mut left_out, newest, .. } = all;
    // Stable, because that sort is fast for a few sorted lists in a row.
    files.sort_by(|a, b| part(&text, a.path).cmp(part(&text, b.path)));
    let (rules, complaints) = Rules::parse(&rules[0], &rules[1]);
    left_out.sort_by(|a, b| a.path.cmp(&b.path));
    let stores = shelf.stores().context("cannot seal the memory of the content")?;
    let files = with_variants(text, &files);
    Ok(Scan { files, stores, rules, complaints, left_out, signature, newest })
}

/// Combines files with their coded forms.
fn with_variants(text: Vec<u8>, found: &[Found]) -> Files {
    let extensions = || Coding::ALL.iter().skip(1).map(|coding| coding.extension().as_bytes());
    let is_coded = |path: &[u8]| extensions().any(|extension| path.ends_with(extension));
    let coded = found.iter().filter(|file| is_coded(part(&text, file.path)));
    let coded: HashMap<&[u8], &Found> = coded.map(|file| (part(&text, file.path), file)).collect();
    let mut variants = Vec::with_capacity(found.len());
    let mut list = Vec::with_capacity(found.len());
    for file in found {
        let first = variants.len();
        variants.push(file.encoded);
        if !coded.is_empty() {
            variants.extend(sidecars(part(&text, file.path), file, &coded));
        }
        let modified = u64::try_from(file.modified.div_euclid(1_000_000_000)).ok();
        list.push(Listed { path: file.path, first, count: variants.len() - first, modified });
    }
    drop(coded);
    Files { text, list, variants }
}

/// Returns the coded forms of a file.
fn sidecars<'a>(
    path: &'a [u8],
    file: &'a Found,
    coded: &'a HashMap<&[u8], &Found>,
) -> impl Iterator<Item = Encoded> + use<'a> {
    Coding::ALL.iter().skip(1).filter_map(move |coding| {
        let name = [path, coding.extension().as_bytes()].concat();
        let sidecar = coded.get(&name[..])?;
        let is_current = sidecar.modified.saturating_add(SIDECAR_AGE_MAX) >= file.modified;
        let usable = is_current && sidecar.encoded.body.len > 0;
        usable.then_some(Encoded { coding: *coding, ..sidecar.encoded })
    })
}

fn nanos(seconds: i64, nanos: impl TryInto<i128>) -> i128 {
    i128::from(seconds) * 1_000_000_000 + nanos.try_into().unwrap_or(0)
}

/// Appends a path.
fn push(text: &mut Vec<u8>, path: &[u8]) -> Result<Span, TooLarge> {
    let start = u32::try_from(text.len()).map_err(|_| TooLarge::Paths)?;
    let len = u32::try_from(path.len()).map_err(|_| TooLarge::Paths)?;
    start.checked_add(len).ok_or(TooLarge::Paths)?;
    text.extend_from_slice(path);
    Ok(Span { start, len })
}

fn part(text: &[u8], span: Span) -> &[u8] {
    &text[span.start as usize..(span.start + span.len) as usize]
}

#[cfg(test)]
mod tests;
