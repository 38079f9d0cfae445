//! A tree of files, from git or elsewhere.

/// The kind of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryKind {
    /// A folder.
    Folder,
    /// A file.
    File,
    /// A symbolic link; its target is the file's content.
    Link,
    /// A commit of another repository.
    Submodule,
}

/// An entry of a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry<Id> {
    /// The name, as the source has it: not checked.
    pub name: Vec<u8>,
    /// The kind.
    pub kind: EntryKind,
    /// The content.
    pub id: Id,
}

/// The content of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Blob {
    /// The bytes.
    Bytes(Vec<u8>),
    /// The file is larger than the limit.
    TooLarge,
}

/// A source of trees.
pub trait Objects {
    /// The name of a content. Equal contents may have equal names.
    type Id: Copy + Ord;
    /// The reason why a content cannot be read.
    type Error;

    /// Returns the entries of a folder.
    fn folder(&self, id: &Self::Id) -> Result<Vec<Entry<Self::Id>>, Self::Error>;

    /// Returns the content of a file or a link.
    fn file(&self, id: &Self::Id) -> Result<Blob, Self::Error>;
}
