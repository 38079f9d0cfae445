//! The settings of an erofs image.

use std::fmt;

/// How file data is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// LZ4 with the thorough compressor, level 1 to 12. Fast to read.
    Lz4hc(u8),
    /// Zstandard, level 1 to 22. Smaller, half again as slow to read.
    Zstd(u8),
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::Lz4hc(level) => write!(f, "lz4hc,{level}"),
            Self::Zstd(level) => write!(f, "zstd,{level}"),
        }
    }
}

/// What an image is made with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// How file data is compressed.
    pub compression: Compression,
    /// The most that is compressed as one piece, in bytes: a multiple of 4096, at most 1 MiB.
    pub cluster: u32,
}
