//! The place of `/var`, and the only way into it.

use std::io;
use std::path::Path;

use crate::kernel::beneath::Folder;

/// Opens `/var`, everything below which was written by a stranger. The disk can hang.
pub fn open() -> io::Result<Folder> {
    Folder::open(Path::new("/var"))
}

/// The place of `/var`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Var {
    /// In memory: empty at each boot.
    Memory,
    /// On the data partition.
    Partition,
}
