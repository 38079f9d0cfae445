//! The settings of an erofs image.

use std::fmt;

/// The compression of file data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// No compression.
    None,
    /// LZ4 with the thorough compressor, level 1 to 12. Fast to read.
    Lz4hc(u8),
    /// Zstandard, level 1 to 22. Smaller, but slower to read.
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

/// The settings of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// The compression of file data.
    pub compression: Compression,
    /// The largest number of bytes compressed as one piece: a multiple of 4096, at most 1 MiB.
    pub cluster: u32,
}
