//! `[budget]`: the upper bounds of an image.

/// Upper bounds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Budget {
    /// `size` fails above this many MiB of the finished file.
    pub uki_mib: u64,
    /// `build` itself fails above this.
    pub uki_limit_mib: u64,
    /// Regular files with an x bit in the root.
    pub executables: usize,
    /// PID 1's binary in KiB.
    pub init_kib: u64,
}
