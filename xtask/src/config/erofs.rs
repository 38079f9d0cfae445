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
    /// LZMA, level 0 to 9. The smallest and slowest to read, for files that few nodes read.
    Lzma(u8),
}

impl Compression {
    /// Parses `none` or `ALGORITHM,LEVEL`.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (algorithm, level) = text.split_once(',').unwrap_or((text, "0"));
        match (algorithm, level.parse()) {
            ("none", Ok(0)) => Some(Self::None),
            ("lz4hc", Ok(level @ 1..=12)) => Some(Self::Lz4hc(level)),
            ("zstd", Ok(level @ 1..=22)) => Some(Self::Zstd(level)),
            ("lzma", Ok(level @ 0..=9)) => Some(Self::Lzma(level)),
            _ => None,
        }
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::Lz4hc(level) => write!(f, "lz4hc,{level}"),
            Self::Zstd(level) => write!(f, "zstd,{level}"),
            Self::Lzma(level) => write!(f, "lzma,{level}"),
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
    /// The compression of files that most nodes never read, such as the modules in groups.
    pub modules: Compression,
}
