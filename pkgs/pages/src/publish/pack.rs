//! The files of a site → a pack.
//!
//! Bodies go through a spool on disk, so memory holds one file at a time and the index. Equal bodies
//! are stored once. The same tree gives the same bytes on every machine.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use sha2::{Digest as _, Sha256};
use static_server::index::assemble::{Encoded, Item, RULES, assemble};
use static_server::index::policy::Policy;
use static_server::index::{Body, Coding};
use static_server::media::media_type;
use static_server::pack::compress::{self, Effort};
use static_server::pack::layout::Blob as Span;
use static_server::pack::write::{order, plan};
use static_server::rules::Rules;

use crate::digest::Digest;
use crate::publish::note::{Note, Notes};
use crate::publish::reuse::Reuse;
use crate::publish::rules::{self, RULES_BYTES_MAX};
use crate::publish::tree::{Blob, Objects};
use crate::publish::walk::Files;

/// The start of a pointer of Git LFS.
const LFS: &[u8] = b"version https://git-lfs.github.com/spec/";

/// The most bytes of a pointer of Git LFS, by its specification.
const LFS_BYTES_MAX: usize = 1024;

type Sum = [u8; 32];

/// A finished pack.
#[derive(Debug)]
pub struct Built {
    /// The digest of its bytes.
    pub digest: Digest,
    /// Its size.
    pub bytes: u64,
    /// The number of files.
    pub files: u64,
    /// Remarks about the files.
    pub notes: Notes,
}

/// The reason why there is no pack.
#[derive(Debug)]
pub enum PackError<E> {
    /// The source fails.
    Source(E),
    /// The files have more bytes together than this limit.
    TooLarge(u64),
    /// No file is left.
    Empty,
    /// `_headers` or `_redirects` cannot be mended by leaving out lines.
    Rules,
    /// The disk fails.
    Disk(io::Error),
}

impl<E: fmt::Display> fmt::Display for PackError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Source(error) => error.fmt(f),
            Self::TooLarge(limit) => write!(f, "the site has more than {} MiB", limit >> 20),
            Self::Empty => f.write_str("the site has no files"),
            Self::Rules => f.write_str("cannot read _headers or _redirects"),
            Self::Disk(error) => write!(f, "cannot write the pack: {error}"),
        }
    }
}

impl<E> From<io::Error> for PackError<E> {
    fn from(error: io::Error) -> Self {
        Self::Disk(error)
    }
}

/// Writes the pack of some files to an open file. `scratch` is a folder for the spool.
pub fn build<O: Objects>(
    objects: &O,
    files: Files<O::Id>,
    site_bytes: u64,
    reuse: Option<&Reuse>,
    scratch: &Path,
    out: &File,
) -> Result<Built, PackError<O::Error>> {
    let Files { files, notes } = files;
    let mut packer = Packer {
        spool: Spool::new(scratch)?,
        reuse,
        room: site_bytes,
        site_bytes,
        plain: BTreeMap::new(),
        forms: HashMap::new(),
        rules: [Vec::new(), Vec::new()],
        notes,
        items: Vec::new(),
    };
    for (path, id) in files {
        packer.file(objects, path, id)?;
    }
    if packer.items.is_empty() {
        return Err(PackError::Empty);
    }
    let [headers, redirects] = &packer.rules;
    let rules = rules::parse(headers, redirects, &mut packer.notes).ok_or(PackError::Rules)?;
    let files = packer.items.len() as u64;
    let (digest, bytes) = packer.write(rules, out)?;
    Ok(Built { digest, bytes, files, notes: packer.notes })
}

struct Packer<'a, Id> {
    spool: Spool,
    reuse: Option<&'a Reuse>,
    room: u64,
    site_bytes: u64,
    /// The digests of contents that were read; nothing for one that is left out.
    plain: BTreeMap<Id, Option<Sum>>,
    /// The coded forms of plain bodies.
    forms: HashMap<Sum, Vec<(Coding, Sum)>>,
    rules: [Vec<u8>; 2],
    notes: Notes,
    /// Paths with the digests of their plain bodies, and true if coded forms are used.
    items: Vec<(Vec<u8>, Sum, bool)>,
}

impl<Id: Copy + Ord> Packer<'_, Id> {
    fn file<O: Objects<Id = Id>>(
        &mut self,
        objects: &O,
        path: Vec<u8>,
        id: Id,
    ) -> Result<(), PackError<O::Error>> {
        let worth = compress::is_worth_trying(media_type(&path));
        let known = self.plain.get(&id).copied();
        let is_rules = RULES.iter().position(|name| *name == path);
        if let (Some(Some(sum)), None) = (known, is_rules)
            && (!worth || self.forms.contains_key(&sum))
        {
            self.items.push((path, sum, worth));
            return Ok(());
        }
        let bytes = match objects.file(&id).map_err(PackError::Source)? {
            Blob::Bytes(bytes) => bytes,
            Blob::TooLarge => {
                self.notes.add(&path, &Note::TooLarge);
                return Ok(());
            }
        };
        if let Some(number) = is_rules {
            if bytes.len() > RULES_BYTES_MAX {
                self.notes.add(&path, &Note::TooLarge);
            } else {
                self.rules[number] = bytes;
            }
            return Ok(());
        }
        if bytes.len() <= LFS_BYTES_MAX && bytes.starts_with(LFS) {
            self.notes.add(&path, &Note::Lfs);
            return Ok(());
        }
        let sum = self.store(id, &bytes)?;
        if worth && !self.forms.contains_key(&sum) {
            let forms = self.coded(&sum, &bytes)?;
            self.forms.insert(sum, forms);
        }
        self.items.push((path, sum, worth));
        Ok(())
    }

    fn store<E>(&mut self, id: Id, bytes: &[u8]) -> Result<Sum, PackError<E>> {
        let len = bytes.len() as u64;
        let (sum, is_new) = self.spool.add(bytes)?;
        if is_new {
            self.room = self.room.checked_sub(len).ok_or(PackError::TooLarge(self.site_bytes))?;
        }
        self.plain.insert(id, Some(sum));
        Ok(sum)
    }

    fn coded<E>(&mut self, sum: &Sum, bytes: &[u8]) -> Result<Vec<(Coding, Sum)>, PackError<E>> {
        let forms = match self.reuse.and_then(|reuse| reuse.forms(sum)) {
            Some(forms) => forms,
            None => compress::coded(bytes, Effort::QUICK)
                .map_err(|error| PackError::Disk(io::Error::other(error)))?,
        };
        let mut stored = Vec::with_capacity(forms.len());
        for (coding, bytes) in forms {
            stored.push((coding, self.spool.add(&bytes)?.0));
        }
        Ok(stored)
    }

    /// Lays the pack out and writes it.
    fn write<E>(&mut self, rules: Rules, out: &File) -> Result<(Digest, u64), PackError<E>> {
        let mut blobs: Vec<Span> = self
            .spool
            .bodies
            .iter()
            .map(|(sum, (_, len))| Span { start: 0, len: *len, sha256: *sum })
            .collect();
        blobs.sort_by_key(order);
        let numbers: HashMap<Sum, (u64, u64)> =
            (0..).zip(&blobs).map(|(number, blob)| (blob.sha256, (number, blob.len))).collect();
        let encoded = |coding: Coding, sum: &Sum| {
            let (start, len) = numbers[sum];
            let mut tag = [0; 16];
            tag.copy_from_slice(&sum[..16]);
            Encoded { coding, body: Body { store: 0, start, len }, tag }
        };
        let item = |(path, sum, worth): &(Vec<u8>, Sum, bool)| {
            let forms = self.forms.get(sum).filter(|_| *worth).into_iter().flatten();
            let forms = forms.map(|(coding, sum)| encoded(*coding, sum));
            let plain = encoded(Coding::Identity, sum);
            let variants = std::iter::once(plain).chain(forms).collect();
            Item { path: path.clone(), variants, modified: None }
        };
        let items: Vec<Item> = self.items.iter().map(item).collect();
        let index = assemble(&items, Vec::new(), rules, &Policy::default());
        let index = index.map_err(io::Error::other)?;
        let laid = plan(&index, &blobs)?;
        let mut writer =
            Summing { out: BufWriter::with_capacity(256 << 10, out), sum: Sha256::new() };
        writer.write_all(&laid.head)?;
        let mut at = laid.head.len() as u64;
        for blob in &laid.blobs {
            io::copy(&mut io::Read::take(io::repeat(0), blob.start - at), &mut writer)?;
            self.spool.copy(&blob.sha256, &mut writer)?;
            at = blob.start + blob.len;
        }
        writer.out.flush()?;
        Ok((Digest::from_bytes(writer.sum.finalize().into()), laid.len))
    }
}

/// A writer that computes the digest of everything.
struct Summing<W> {
    out: W,
    sum: Sha256,
}

impl<W: Write> Write for Summing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.out.write(bytes)?;
        self.sum.update(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Bodies on disk, in a file without a name.
struct Spool {
    file: File,
    len: u64,
    /// Offset and length of each body.
    bodies: HashMap<Sum, (u64, u64)>,
}

impl Spool {
    fn new(folder: &Path) -> io::Result<Self> {
        Ok(Self { file: tempfile::tempfile_in(folder)?, len: 0, bodies: HashMap::new() })
    }

    /// Adds a body, and returns its digest, and true if it is new.
    fn add(&mut self, bytes: &[u8]) -> io::Result<(Sum, bool)> {
        let sum: Sum = Sha256::digest(bytes).into();
        if self.bodies.contains_key(&sum) {
            return Ok((sum, false));
        }
        self.file.write_all_at(bytes, self.len)?;
        let len = bytes.len() as u64;
        self.bodies.insert(sum, (self.len, len));
        self.len += len;
        Ok((sum, true))
    }

    fn copy(&self, sum: &Sum, out: &mut impl Write) -> io::Result<()> {
        let (mut at, len) = self.bodies.get(sum).copied().unwrap_or_default();
        let end = at + len;
        let mut buffer = vec![0; usize::try_from(len.min(256 << 10)).unwrap_or(0)];
        while at < end {
            let count = buffer.len().min(usize::try_from(end - at).unwrap_or(buffer.len()));
            self.file.read_exact_at(&mut buffer[..count], at)?;
            out.write_all(&buffer[..count])?;
            at += count as u64;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
