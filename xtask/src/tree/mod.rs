//! A file tree in memory: the contents of a root, an archive or an OCI layer.
//!
//! Nothing here touches the disk. A writer (`image/*`) turns a `Tree` into bytes. Every entry has
//! an owner, so that a clash can name both sides and `size` can list the bytes of each package.

pub mod staged;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

/// A path inside a tree: absolute, normalised, UTF-8, never `/` itself.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TreePath(String);

/// The bytes of a regular file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// In memory.
    Bytes(Arc<[u8]>),
    /// In a finished cache entry, which never changes.
    Cached {
        /// Its path on the host.
        path: PathBuf,
        /// Its length in bytes.
        size: u64,
    },
}

/// One entry. All files belong to uid 0 and gid 0, and times are the writer's constant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node {
    /// A folder with its permission bits.
    Dir(u16),
    /// A regular file with its permission bits.
    File(u16, Content),
    /// A symbolic link and its target, taken as it is.
    Link(String),
}

/// A node and the package (or file of the repository) that it comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The kind of entry.
    pub node: Node,
    /// The package that it comes from.
    pub owner: String,
}

/// A sorted tree, parents before children.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tree {
    entries: BTreeMap<TreePath, Entry>,
}

/// The reason why an entry was refused.
#[derive(Debug, PartialEq, Eq)]
pub enum TreeError {
    /// Not absolute, not normalised, or empty.
    BadPath(String),
    /// Two owners want one path.
    Clash {
        /// The path that both have.
        path: TreePath,
        /// The first owner.
        first: String,
        /// The second owner.
        second: String,
    },
}

impl TreePath {
    /// Takes `/usr/bin/kubelet`; refuses relative paths, empty segments, `.` and `..`, NUL.
    pub fn new(path: &str) -> Result<Self, TreeError> {
        let bad = || TreeError::BadPath(path.to_owned());
        let rest = path.strip_prefix('/').ok_or_else(bad)?;
        if rest.contains('\0') || rest.split('/').any(|s| matches!(s, "" | "." | "..")) {
            return Err(bad());
        }
        Ok(Self(path.to_owned()))
    }

    /// Returns the path with its leading slash.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the path without its leading slash, as archives need it.
    pub fn relative(&self) -> &str {
        &self.0[1..]
    }

    /// Returns the parent folder; `None` directly below the root.
    pub fn parent(&self) -> Option<Self> {
        match self.0.rfind('/') {
            Some(0) | None => None,
            Some(at) => Some(Self(self.0[..at].to_owned())),
        }
    }
}

impl fmt::Display for TreePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for TreeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadPath(path) => write!(
                f,
                "`{path}` is not a path in an image: it must start with `/` and have no empty, `.` or `..` segment"
            ),
            Self::Clash { path, first, second } => {
                write!(f, "{path} comes from both `{first}` and `{second}`; one of them must go")
            }
        }
    }
}

impl std::error::Error for TreeError {}

impl Content {
    /// Returns the length in bytes.
    pub fn len(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Cached { size, .. } => *size,
        }
    }
}

impl Tree {
    /// Adds an entry, and its missing parents as folders with mode 0755.
    ///
    /// A folder may be added twice with the same mode; everything else only once.
    pub fn add(&mut self, path: &str, owner: &str, node: Node) -> Result<(), TreeError> {
        let path = TreePath::new(path)?;
        self.add_parents(&path, owner)?;
        if let Some(old) = self.entries.get(&path) {
            if matches!((&old.node, &node), (Node::Dir(a), Node::Dir(b)) if a == b) {
                return Ok(());
            }
            return Err(clash(&path, old, owner));
        }
        self.entries.insert(path, Entry { node, owner: owner.to_owned() });
        Ok(())
    }

    fn add_parents(&mut self, path: &TreePath, owner: &str) -> Result<(), TreeError> {
        let mut at = path.parent();
        while let Some(dir) = at {
            match self.entries.get(&dir) {
                Some(Entry { node: Node::Dir(_), .. }) => return Ok(()),
                Some(old) => return Err(clash(&dir, old, owner)),
                None => {
                    let entry = Entry { node: Node::Dir(0o755), owner: owner.to_owned() };
                    at = dir.parent();
                    self.entries.insert(dir, entry);
                }
            }
        }
        Ok(())
    }

    /// Returns all entries in path order, so that a parent comes before its children.
    pub fn iter(&self) -> impl Iterator<Item = (&TreePath, &Entry)> {
        self.entries.iter()
    }

    /// Returns one entry.
    pub fn get(&self, path: &str) -> Option<&Entry> {
        self.entries.get(&TreePath::new(path).ok()?)
    }
}

fn clash(path: &TreePath, old: &Entry, second: &str) -> TreeError {
    TreeError::Clash { path: path.clone(), first: old.owner.clone(), second: second.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> Node {
        Node::File(0o644, Content::Bytes(Arc::from(&b"x"[..])))
    }

    #[test]
    fn parents_come_first_and_order_does_not_depend_on_insertion() {
        let mut a = Tree::default();
        a.add("/usr/bin/b", "p", file()).unwrap();
        a.add("/usr/a", "p", file()).unwrap();
        let mut b = Tree::default();
        b.add("/usr/a", "p", file()).unwrap();
        b.add("/usr/bin/b", "p", file()).unwrap();
        assert_eq!(a, b);
        let paths: Vec<_> = a.iter().map(|(path, _)| path.as_str()).collect();
        assert_eq!(paths, ["/usr", "/usr/a", "/usr/bin", "/usr/bin/b"]);
    }

    #[test]
    fn two_owners_of_one_path_are_both_named() {
        let mut tree = Tree::default();
        tree.add("/usr/bin/x", "first", file()).unwrap();
        let error = tree.add("/usr/bin/x", "second", file()).unwrap_err().to_string();
        assert!(error.contains("`first`") && error.contains("`second`"), "{error}");
        assert!(tree.add("/usr/bin/x/y", "third", file()).is_err(), "a file has no children");
    }

    #[test]
    fn paths_that_could_leave_the_tree_are_refused() {
        for bad in ["", "/", "a", "/a/", "//a", "/a/../b", "/./a", "/a\0"] {
            assert!(TreePath::new(bad).is_err(), "{bad:?}");
        }
    }
}
