//! The place of `/var`.

/// Where `/var` is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Var {
    /// In memory: empty at each boot.
    Memory,
    /// On the data partition.
    Partition,
}
