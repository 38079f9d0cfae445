//! A tree → the files of a site.
//!
//! Links are resolved here, so that a server never meets one. A link may lead to a file or a folder
//! within the site, over further links; every other one is left out with a note. The number of files
//! is bounded while folders are entered, therefore links that multiply folders end early.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;

use crate::publish::note::{Note, Notes};
use crate::publish::tree::{Blob, Entry, EntryKind, Objects};

/// The most files of a site, the deepest path, and the longest one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// The most files, with those behind links.
    pub files: usize,
    /// The most folders around a file.
    pub depth: usize,
    /// The most bytes of a path.
    pub path_bytes: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { files: 50_000, depth: 32, path_bytes: 1024 }
    }
}

/// The most links on the way to one file.
const LINKS_MAX: u32 = 8;

/// The most bytes of a link's target, as on Linux.
const TARGET_BYTES_MAX: usize = 4096;

/// The only name with a dot at its start that is published (RFC 8615).
const WELL_KNOWN: &[u8] = b".well-known";

/// The files of a site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files<Id> {
    /// The contents by their paths, which begin with a slash.
    pub files: BTreeMap<Vec<u8>, Id>,
    /// Remarks about paths without content, and about confusable paths.
    pub notes: Notes,
}

/// The reason why a tree is not published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stop<E> {
    /// The folder of the site does not exist.
    NoFolder(String),
    /// There are more files than allowed.
    TooMany(usize),
    /// The source fails.
    Source(E),
}

impl<E: fmt::Display> fmt::Display for Stop<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoFolder(path) => write!(f, "the repository has no folder {path:?}"),
            Self::TooMany(limit) => write!(f, "the site has more than {limit} files"),
            Self::Source(error) => error.fmt(f),
        }
    }
}

/// Collects the files below a folder of a tree. Names that begin with a dot are hidden, apart from
/// `.well-known`.
pub fn walk<O: Objects>(
    objects: &O,
    root: O::Id,
    path: &str,
    bounds: &Bounds,
) -> Result<Files<O::Id>, Stop<O::Error>> {
    let site = descend(objects, root, path)?;
    let files = Files { files: BTreeMap::new(), notes: Notes::default() };
    let known = RefCell::new(BTreeMap::new());
    let mut walker = Walker { objects, bounds, site, files, known, open: Vec::new(), seen: 0 };
    walker.folder(site, &[], &[])?;
    let mut files = walker.files;
    collisions(&mut files);
    Ok(files)
}

/// Returns the folder at a path of the repository. Links on the way are not followed.
fn descend<O: Objects>(objects: &O, root: O::Id, path: &str) -> Result<O::Id, Stop<O::Error>> {
    let mut folder = root;
    for name in path.split('/').filter(|name| !name.is_empty() && *name != ".") {
        let entries = objects.folder(&folder).map_err(Stop::Source)?;
        let found = entries
            .into_iter()
            .find(|entry| entry.name == name.as_bytes() && entry.kind == EntryKind::Folder);
        folder = found.ok_or_else(|| Stop::NoFolder(path.to_owned()))?.id;
    }
    Ok(folder)
}

type Path = Vec<Vec<u8>>;

/// The kind and the content of an entry, if there is one.
type Found<O> = Option<(EntryKind, <O as Objects>::Id)>;

/// The entries of a folder by their names.
type Folder<Id> = Rc<BTreeMap<Vec<u8>, (EntryKind, Id)>>;

struct Walker<'a, O: Objects> {
    objects: &'a O,
    bounds: &'a Bounds,
    site: O::Id,
    files: Files<O::Id>,
    /// The folders on the ways of links. Without them, many links in a large folder would read that
    /// folder as often.
    known: RefCell<BTreeMap<O::Id, Folder<O::Id>>>,
    /// The folders around the current one. A folder contains itself only through a link.
    open: Vec<O::Id>,
    /// The number of entries so far.
    seen: usize,
}

/// The end of a link.
enum Target<Id> {
    File(Id),
    /// A folder, and its path without links.
    Folder(Id, Path),
    Nothing(Note),
}

impl<O: Objects> Walker<'_, O> {
    /// Adds a folder that appears at `path`. Without links, its path is `real`.
    fn folder(
        &mut self,
        id: O::Id,
        path: &[Vec<u8>],
        real: &[Vec<u8>],
    ) -> Result<(), Stop<O::Error>> {
        let entries = self.objects.folder(&id).map_err(Stop::Source)?;
        self.open.push(id);
        for Entry { name, kind, id } in entries {
            if name.starts_with(b".") && name != WELL_KNOWN {
                continue;
            }
            self.seen += 1;
            if self.seen > self.bounds.files.saturating_mul(2) {
                return Err(Stop::TooMany(self.bounds.files));
            }
            let mut below = path.to_vec();
            below.push(name);
            self.entry(&below, real, kind, id)?;
        }
        self.open.pop();
        Ok(())
    }

    /// Adds an entry of the folder `real`.
    fn entry(
        &mut self,
        path: &[Vec<u8>],
        real: &[Vec<u8>],
        kind: EntryKind,
        id: O::Id,
    ) -> Result<(), Stop<O::Error>> {
        let text = joined(path);
        let name = path.last().cloned().unwrap_or_default();
        if !is_name(&name) {
            self.files.notes.add(&text, &Note::BadName);
            return Ok(());
        }
        if path.len() > self.bounds.depth || text.len() > self.bounds.path_bytes {
            self.files.notes.add(&text, &Note::TooDeep);
            return Ok(());
        }
        match kind {
            EntryKind::File => self.add(text, id),
            EntryKind::Folder => self.folder(id, path, &[real, &[name]].concat()),
            EntryKind::Submodule => {
                self.files.notes.add(&text, &Note::Submodule);
                Ok(())
            }
            EntryKind::Link => self.link(path, real, id),
        }
    }

    fn link(
        &mut self,
        path: &[Vec<u8>],
        real: &[Vec<u8>],
        id: O::Id,
    ) -> Result<(), Stop<O::Error>> {
        let note = match self.resolve(real, id)? {
            Target::File(id) => return self.add(joined(path), id),
            Target::Folder(id, _) if self.open.contains(&id) => Note::Loop,
            Target::Folder(id, real) => return self.folder(id, path, &real),
            Target::Nothing(note) => note,
        };
        self.files.notes.add(&joined(path), &note);
        Ok(())
    }

    fn add(&mut self, path: Vec<u8>, id: O::Id) -> Result<(), Stop<O::Error>> {
        self.files.files.insert(path, id);
        if self.files.files.len() > self.bounds.files {
            return Err(Stop::TooMany(self.bounds.files));
        }
        Ok(())
    }

    /// Follows a link that lies in a folder.
    fn resolve(&self, folder: &[Vec<u8>], link: O::Id) -> Result<Target<O::Id>, Stop<O::Error>> {
        let mut place = folder.to_vec();
        let mut id = link;
        // The names that are left, in reverse order.
        let mut rest = Path::new();
        for _ in 0..LINKS_MAX {
            let Some(mut target) = self.target(id)? else {
                return Ok(Target::Nothing(Note::Outside));
            };
            rest.append(&mut target);
            match self.step(&mut place, &mut rest)? {
                Step::End(target) => return Ok(target),
                Step::Link(next) => id = next,
            }
        }
        Ok(Target::Nothing(Note::Loop))
    }

    /// Goes on from a place until the end or the next link.
    fn step(&self, place: &mut Path, rest: &mut Path) -> Result<Step<O::Id>, Stop<O::Error>> {
        let nothing = |note| Ok(Step::End(Target::Nothing(note)));
        while let Some(name) = rest.pop() {
            match name.as_slice() {
                b"" | b"." => continue,
                b".." if place.pop().is_some() => continue,
                b".." => return nothing(Note::Outside),
                name if name.starts_with(b".") && name != WELL_KNOWN => {
                    return nothing(Note::Outside);
                }
                _ => place.push(name),
            }
            match self.at(place)? {
                Some((EntryKind::Folder, _)) => {}
                Some((EntryKind::File, id)) if rest.is_empty() => {
                    return Ok(Step::End(Target::File(id)));
                }
                Some((EntryKind::File, _)) | None => return nothing(Note::Dangling),
                Some((EntryKind::Submodule, _)) => return nothing(Note::Submodule),
                Some((EntryKind::Link, id)) => {
                    place.pop();
                    return Ok(Step::Link(id));
                }
            }
        }
        let id = self.at(place)?.map_or(self.site, |(_, id)| id);
        Ok(Step::End(Target::Folder(id, std::mem::take(place))))
    }

    /// Returns the names of a link's target in reverse order; nothing if it is absolute.
    fn target(&self, link: O::Id) -> Result<Option<Vec<Vec<u8>>>, Stop<O::Error>> {
        let Blob::Bytes(target) = self.objects.file(&link).map_err(Stop::Source)? else {
            return Ok(None);
        };
        if target.starts_with(b"/") || target.len() > TARGET_BYTES_MAX {
            return Ok(None);
        }
        Ok(Some(target.split(|byte| *byte == b'/').rev().map(<[u8]>::to_vec).collect()))
    }

    /// Returns the entry at a path of the site, without following links.
    fn at(&self, path: &[Vec<u8>]) -> Result<Found<O>, Stop<O::Error>> {
        let mut found = None;
        for name in path {
            let folder = match found {
                None => self.site,
                Some((EntryKind::Folder, id)) => id,
                Some(_) => return Ok(None),
            };
            let Some(next) = self.entries(folder)?.get(name).copied() else { return Ok(None) };
            found = Some(next);
        }
        Ok(found)
    }

    fn entries(&self, id: O::Id) -> Result<Folder<O::Id>, Stop<O::Error>> {
        if let Some(known) = self.known.borrow().get(&id) {
            return Ok(known.clone());
        }
        let entries = self.objects.folder(&id).map_err(Stop::Source)?;
        let entries = entries.into_iter().map(|entry| (entry.name, (entry.kind, entry.id)));
        let entries: Folder<O::Id> = Rc::new(entries.collect());
        self.known.borrow_mut().insert(id, entries.clone());
        Ok(entries)
    }
}

/// The end of a path, or a link on it.
enum Step<Id> {
    End(Target<Id>),
    Link(Id),
}

/// True for a name that is one segment of a path. A hostile tree can have any bytes as a name.
fn is_name(name: &[u8]) -> bool {
    let is_dots = name == b"." || name == b"..";
    !name.is_empty()
        && !is_dots
        && !name.iter().any(|byte| *byte == b'/' || *byte < 0x20 || *byte == 0x7f)
}

fn joined(path: &[Vec<u8>]) -> Vec<u8> {
    let mut text = Vec::new();
    for name in path {
        text.push(b'/');
        text.extend_from_slice(name);
    }
    text
}

/// Returns a form that is the same for texts that people cannot tell apart: by case, or by the form of
/// their letters (Unicode's NFKC).
#[must_use]
pub fn folded(text: &str) -> String {
    use unicode_normalization::UnicodeNormalization as _;
    text.nfkc().flat_map(char::to_lowercase).nfkc().collect()
}

/// Notes paths that people cannot tell apart. All are published, because the server compares bytes.
fn collisions<Id>(files: &mut Files<Id>) {
    let mut known: BTreeMap<String, &Vec<u8>> = BTreeMap::new();
    for path in files.files.keys() {
        let Ok(text) = std::str::from_utf8(path) else { continue };
        let folded = folded(text);
        match known.get(&folded) {
            None => drop(known.insert(folded, path)),
            Some(other) => {
                let other = crate::publish::note::shown(other);
                files.notes.add(path, &Note::Collision(other));
            }
        }
    }
}

#[cfg(test)]
mod tests;
