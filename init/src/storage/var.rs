//! The place of `/var`.

/// The place of `/var`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Var {
    /// In memory: empty at each boot.
    Memory,
    /// On the data partition.
    Partition,
}
