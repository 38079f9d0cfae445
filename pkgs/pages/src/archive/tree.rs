//! The tree of an archive. Paths are checked here, and contents lie in a file without a name.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use crate::archive::limits::{Limits, Refusal};
use crate::archive::meter::damaged;
use crate::publish::tree::{Blob, Entry, EntryKind, Objects};
use crate::publish::walk::folded;

/// The number of the first folder.
const ROOT: usize = 0;

/// The bytes that are copied at once.
const PART: usize = 64 << 10;

/// Files and folders.
#[derive(Debug)]
pub struct Tree {
    nodes: Vec<Node>,
    limits: Limits,
    contents: File,
    /// The end of the contents.
    end: u64,
}

#[derive(Debug)]
enum Node {
    /// The entries by the folded forms of their names, with their names.
    Folder(BTreeMap<String, (String, usize)>),
    /// The place of the content.
    File { at: u64, len: u64 },
}

impl Tree {
    /// Creates an empty tree with its file in a folder.
    pub fn new(limits: &Limits, scratch: &Path) -> io::Result<Self> {
        Ok(Self {
            nodes: vec![Node::Folder(BTreeMap::new())],
            limits: *limits,
            contents: tempfile::tempfile_in(scratch)?,
            end: 0,
        })
    }

    /// Returns the first folder.
    #[must_use]
    pub const fn root(&self) -> usize {
        ROOT
    }

    /// Returns the most entries.
    #[must_use]
    pub const fn entries_max(&self) -> usize {
        self.limits.entries
    }

    /// Adds a folder; an archive may name it several times.
    pub fn add_folder(&mut self, path: &[u8]) -> Result<(), Refusal> {
        self.descend(path, &self.segments(path)?).map(drop)
    }

    /// Adds a file with its content, and returns the number of its bytes.
    pub fn add_file(&mut self, path: &[u8], content: impl Read) -> Result<u64, Refusal> {
        let segments = self.segments(path)?;
        let Some((name, folders)) = segments.split_last() else {
            return Err(Refusal::BadPath(path.to_vec(), "is no name of a file"));
        };
        let parent = self.descend(path, folders)?;
        let (at, len) = (self.end, self.copy(path, content)?);
        let number = self.push(Node::File { at, len })?;
        let Some(Node::Folder(entries)) = self.nodes.get_mut(parent) else {
            return Err(Refusal::Twice(path.to_vec()));
        };
        match entries.insert(folded(name), (name.clone(), number)) {
            None => Ok(len),
            Some((other, _)) => Err(same(path, name, &other)),
        }
    }

    /// Copies a content to the end of the file.
    fn copy(&mut self, path: &[u8], mut content: impl Read) -> Result<u64, Refusal> {
        let mut buffer = vec![0; PART];
        let mut len = 0;
        loop {
            let count = match content.read(&mut buffer) {
                Ok(0) => return Ok(len),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(damaged(&error)),
            };
            len += count as u64;
            if len > self.limits.file_bytes {
                return Err(Refusal::FileTooLarge(path.to_vec(), self.limits.file_bytes));
            }
            self.contents.write_all_at(&buffer[..count], self.end).map_err(Refusal::Disk)?;
            self.end += count as u64;
        }
    }

    fn push(&mut self, node: Node) -> Result<usize, Refusal> {
        if self.nodes.len() > self.limits.entries {
            return Err(Refusal::TooMany(self.limits.entries));
        }
        self.nodes.push(node);
        Ok(self.nodes.len() - 1)
    }

    /// Returns the folder at a path, and makes the folders that are missing.
    fn descend(&mut self, path: &[u8], folders: &[String]) -> Result<usize, Refusal> {
        let mut place = ROOT;
        for name in folders {
            let Node::Folder(entries) = &self.nodes[place] else {
                return Err(Refusal::Twice(path.to_vec()));
            };
            let key = folded(name);
            place = match entries.get(&key) {
                Some((other, _)) if other != name => return Err(same(path, name, other)),
                Some((_, number)) => *number,
                None => {
                    let number = self.push(Node::Folder(BTreeMap::new()))?;
                    if let Node::Folder(entries) = &mut self.nodes[place] {
                        entries.insert(key, (name.clone(), number));
                    }
                    number
                }
            };
        }
        match self.nodes[place] {
            Node::Folder(_) => Ok(place),
            Node::File { .. } => Err(Refusal::Twice(path.to_vec())),
        }
    }

    /// Returns the segments of a path that is within the site, and whose meaning is clear.
    fn segments(&self, path: &[u8]) -> Result<Vec<String>, Refusal> {
        let bad = |why| Refusal::BadPath(path.to_vec(), why);
        if path.len() > self.limits.path_bytes {
            return Err(bad("is too long"));
        }
        let text = std::str::from_utf8(path).map_err(|_| bad("is not UTF-8"))?;
        if text.starts_with('/') {
            return Err(bad("is absolute; pack the folder's content with relative paths"));
        }
        if text.contains('\\') {
            return Err(bad("has a backslash; separate folders by /"));
        }
        if text.chars().any(char::is_control) {
            return Err(bad("has a control character"));
        }
        let names = text.split('/').filter(|name| !["", "."].contains(name));
        let names: Vec<String> = names.map(str::to_owned).collect();
        if names.iter().any(|name| name == "..") {
            return Err(bad("leaves its folder by .."));
        }
        if names.len() > self.limits.depth + 1 {
            return Err(bad("is too deep"));
        }
        Ok(names)
    }
}

fn same(path: &[u8], name: &str, other: &str) -> Refusal {
    if name == other {
        return Refusal::Twice(path.to_vec());
    }
    Refusal::Confusable(path.to_vec(), other.as_bytes().to_vec())
}

impl Objects for Tree {
    type Id = usize;
    type Error = Refusal;

    fn folder(&self, id: &usize) -> Result<Vec<Entry<usize>>, Refusal> {
        let Some(Node::Folder(entries)) = self.nodes.get(*id) else { return Ok(Vec::new()) };
        let entry = |(name, number): &(String, usize)| Entry {
            name: name.as_bytes().to_vec(),
            kind: match self.nodes[*number] {
                Node::Folder(_) => EntryKind::Folder,
                Node::File { .. } => EntryKind::File,
            },
            id: *number,
        };
        Ok(entries.values().map(entry).collect())
    }

    fn file(&self, id: &usize) -> Result<Blob, Refusal> {
        let Some(Node::File { at, len }) = self.nodes.get(*id) else { return Ok(Blob::TooLarge) };
        let len = usize::try_from(*len).unwrap_or(usize::MAX);
        let mut bytes = vec![0; len];
        self.contents.read_exact_at(&mut bytes, *at).map_err(Refusal::Disk)?;
        Ok(Blob::Bytes(bytes))
    }
}
