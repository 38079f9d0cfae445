//! The memory for the bodies of a folder, which all threads of a scan fill.
//!
//! A thread reads and hashes a file by itself; only finding equal bodies and copying a new one takes
//! turns.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fs::File;
use std::hash::{BuildHasherDefault, Hasher};
use std::io::{self, Read as _};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Context as _;
use sha2::{Digest as _, Sha256};

use crate::index::store::{Filling, OWN_FROM, Store};
use crate::index::{Body, Index, Tag};

/// The most bodies with memory of their own. Each has a mapping, of which a process may have 65,530.
const OWN_MAX: usize = 1024;

/// Room for the alignment of larger bodies in a small region, in bytes.
const ALIGNMENT_ROOM: u64 = 1 << 20;

/// The size of a thread's first buffer, in bytes.
const BUFFER: usize = 8 << 10;

/// The bodies of a folder.
#[derive(Debug)]
pub struct Shelf {
    content: Mutex<Content>,
    /// The stores of the content that is in force, by the tags of their bodies.
    old: HashMap<Tag, Arc<Store>>,
    /// The smallest size of a file that stays open.
    open_from: u64,
    /// The number of bodies that may still get memory of their own. Each has a descriptor.
    own_left: AtomicUsize,
    is_full: AtomicBool,
}

#[derive(Debug)]
struct Content {
    filling: Filling,
    /// The number of bytes that may still go into memory.
    room: u64,
    /// Stores with one body each.
    own: Vec<Arc<Store>>,
    bodies: HashMap<Tag, Body, BuildHasherDefault<First8>>,
}

/// The first bytes of a tag as its hash: a tag is a part of a digest, so they are random.
#[derive(Debug, Default)]
struct First8(u64);

impl Hasher for First8 {
    fn write(&mut self, bytes: &[u8]) {
        self.0 = bytes.first_chunk().map_or(self.0, |first| u64::from_ne_bytes(*first));
    }

    /// The length of the array, which is always the same.
    fn write_usize(&mut self, _: usize) {}

    fn finish(&self) -> u64 {
        self.0
    }
}

impl Shelf {
    /// Reserves addresses for this many bytes. Files of at least `open_from` bytes stay open, up to
    /// `open_files` of them. Large bodies that `old` has too are shared with it.
    pub fn new(
        memory: u64,
        open_from: u64,
        open_files: usize,
        old: Option<&Index>,
    ) -> anyhow::Result<Self> {
        let variants = old.into_iter().flat_map(|old| {
            let own = |variant| Some((old.own_store(variant)?, variant.tag));
            old.variants.iter().filter_map(own)
        });
        let old = variants.map(|(store, tag)| (tag, Arc::clone(store))).collect();
        // Large bodies are page-aligned, which takes up to an eighth more.
        let room = memory.saturating_add(memory / 8).saturating_add(ALIGNMENT_ROOM);
        let filling = Filling::with_room(room).context("cannot allocate memory for the content")?;
        let content =
            Content { filling, room: memory, own: Vec::new(), bodies: HashMap::default() };
        Ok(Self {
            content: Mutex::new(content),
            old,
            open_from,
            own_left: AtomicUsize::new((open_files / 2).min(OWN_MAX)),
            is_full: AtomicBool::new(false),
        })
    }

    /// True if a file did not fit.
    pub fn is_full(&self) -> bool {
        self.is_full.load(Ordering::Relaxed)
    }

    /// Adds a file of `len` bytes; `None` if it does not fit. `buffer` is the thread's own memory.
    ///
    /// A file of another length is being changed, which is an error.
    pub fn add(
        &self,
        mut file: File,
        len: u64,
        buffer: &mut Vec<u8>,
    ) -> io::Result<Option<(Tag, Body)>> {
        let found = if len >= self.open_from {
            Some(self.keep_open(file, len)?)
        } else if len < OWN_FROM {
            let bytes = whole(&mut file, len, buffer)?;
            self.content().remember(short(&Sha256::digest(bytes)), bytes)?
        } else if self.take_own() {
            self.remember_alone(&mut file, len)?
        } else {
            self.content().remember_file(&mut file, len)?
        };
        if found.is_none() {
            self.is_full.store(true, Ordering::Relaxed);
        }
        Ok(found)
    }

    /// Reserves one of the stores with one body.
    fn take_own(&self) -> bool {
        let one = |left: usize| left.checked_sub(1);
        self.own_left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one).is_ok()
    }

    /// Reads a large body into a store of its own, unless the same body is known.
    fn remember_alone(&self, file: &mut File, len: u64) -> io::Result<Option<(Tag, Body)>> {
        if len > self.content().room {
            return Ok(None);
        }
        let mut filling = Filling::for_one(len)?;
        let (_, bytes) = filling.read(file, len)?;
        let tag = short(&Sha256::digest(bytes));
        let mut content = self.content();
        if let Some(known) = content.bodies.get(&tag) {
            self.own_left.fetch_add(1, Ordering::Relaxed);
            return Ok(Some((tag, *known)));
        }
        let Some(room) = content.room.checked_sub(len) else { return Ok(None) };
        content.room = room;
        let store = match self.old.get(&tag) {
            Some(known) => Arc::clone(known),
            None => Arc::new(Store::Memory(filling.seal()?)),
        };
        let body = content.add_own(store, len)?;
        content.bodies.insert(tag, body);
        Ok(Some((tag, body)))
    }

    fn keep_open(&self, mut file: File, len: u64) -> io::Result<(Tag, Body)> {
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
            return Err(changed());
        }
        let body = self.content().add_own(Arc::new(Store::File(file)), len)?;
        Ok((short(&hasher.finalize()), body))
    }

    /// Seals the memory, and returns all stores.
    pub fn stores(self) -> io::Result<Vec<Arc<Store>>> {
        let content = self.content.into_inner().unwrap_or_else(PoisonError::into_inner);
        let mut stores = vec![Arc::new(Store::Memory(content.filling.seal()?))];
        stores.extend(content.own);
        Ok(stores)
    }

    fn content(&self) -> MutexGuard<'_, Content> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Content {
    /// Copies a body, unless it is known; `None` if it does not fit.
    fn remember(&mut self, tag: Tag, bytes: &[u8]) -> io::Result<Option<(Tag, Body)>> {
        let len = bytes.len() as u64;
        match self.bodies.entry(tag) {
            Entry::Occupied(known) => Ok(Some((tag, *known.get()))),
            Entry::Vacant(place) => {
                let Some(room) = self.room.checked_sub(len) else { return Ok(None) };
                let start = self.filling.push(bytes)?;
                self.room = room;
                Ok(Some((tag, *place.insert(Body { store: 0, start, len }))))
            }
        }
    }

    /// Reads a large file into the memory that bodies share, unless the same body is known.
    fn remember_file(&mut self, file: &mut File, len: u64) -> io::Result<Option<(Tag, Body)>> {
        let Some(room) = self.room.checked_sub(len) else { return Ok(None) };
        let (start, bytes) = self.filling.read(file, len)?;
        let tag = short(&Sha256::digest(bytes));
        let body = Body { store: 0, start, len };
        let known = *self.bodies.entry(tag).or_insert(body);
        if known == body {
            self.room = room;
        } else {
            self.filling.take_back(start);
        }
        Ok(Some((tag, known)))
    }

    fn add_own(&mut self, store: Arc<Store>, len: u64) -> io::Result<Body> {
        self.own.push(store);
        let store = u32::try_from(self.own.len()).map_err(io::Error::other)?;
        Ok(Body { store, start: 0, len })
    }
}

/// Reads a file of `len` bytes.
pub fn whole<'a>(file: &mut File, len: u64, buffer: &'a mut Vec<u8>) -> io::Result<&'a [u8]> {
    let len = usize::try_from(len).map_err(io::Error::other)?;
    if buffer.len() <= len {
        // Memory that the allocator knows to be zero, so that only pages with bytes are touched.
        *buffer = vec![0; (len + 1).next_power_of_two().max(BUFFER)];
    }
    // With room for one more byte, a single system call both reads the file and finds its end,
    // because only there the kernel returns fewer bytes than requested.
    let mut at = 0;
    while at < len || at == 0 {
        match file.read(&mut buffer[at..=len])? {
            0 if at == len => break,
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => at += count,
        }
    }
    if at > len {
        return Err(changed());
    }
    Ok(&buffer[..len])
}

fn changed() -> io::Error {
    io::Error::other("it changed while it was read")
}

fn short(digest: &[u8]) -> Tag {
    let mut tag = Tag::default();
    let half = tag.len();
    tag.copy_from_slice(&digest[..half]);
    tag
}
