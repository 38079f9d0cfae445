//! The limits of an archive, and the reasons why one is refused.

use std::fmt;
use std::io;

use crate::publish::note::shown;

/// The limits of one archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The most bytes after decompression, with the archive's own structures.
    pub bytes: u64,
    /// The most bytes after decompression for each byte of the archive.
    pub ratio: u64,
    /// The most files and folders, with those that only paths name.
    pub entries: usize,
    /// The most bytes of one file.
    pub file_bytes: u64,
    /// The most folders around a file.
    pub depth: usize,
    /// The most bytes of a path.
    pub path_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            bytes: 512 << 20,
            ratio: 200,
            entries: 100_000,
            file_bytes: 32 << 20,
            depth: 32,
            path_bytes: 1024,
        }
    }
}

/// The reason why an archive is refused.
#[derive(Debug)]
pub enum Refusal {
    /// It is in none of the known formats.
    Format,
    /// It ends too early.
    Truncated,
    /// Its bytes contradict each other: a wrong checksum, or a malformed structure.
    Damaged(String),
    /// It has more bytes after decompression than this.
    TooLarge(u64),
    /// It grows by more than this factor.
    Ratio(u64),
    /// It has more entries than this.
    TooMany(usize),
    /// Reading took too long.
    TooSlow,
    /// A path is not within the site, or not a clear name.
    BadPath(Vec<u8>, &'static str),
    /// An entry is no file and no folder.
    NotAFile(Vec<u8>, &'static str),
    /// A file is larger than this.
    FileTooLarge(Vec<u8>, u64),
    /// A path appears twice.
    Twice(Vec<u8>),
    /// Two paths differ only in case or in the form of their letters.
    Confusable(Vec<u8>, Vec<u8>),
    /// Two files of a zip archive share bytes.
    Overlap,
    /// A file of a zip archive is encrypted or in an unusual compression.
    Method(Vec<u8>),
    /// The disk fails.
    Disk(io::Error),
}

impl Refusal {
    /// Returns the reason in one word, for conditions and events.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::TooLarge(_)
            | Self::Ratio(_)
            | Self::TooMany(_)
            | Self::FileTooLarge(..)
            | Self::TooSlow => "LimitExceeded",
            Self::Disk(_) => "DiskError",
            _ => "BadArchive",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Format => f.write_str("the body is no tar, tar.gz, tar.zst or zip archive"),
            Self::Truncated => f.write_str("the archive ends too early; send it again"),
            Self::Damaged(cause) => write!(f, "the archive is damaged: {cause}"),
            Self::TooLarge(limit) => {
                write!(f, "the archive has more than {} MiB of content", limit >> 20)
            }
            Self::Ratio(limit) => {
                write!(f, "the archive has more than {limit} times its size of content")
            }
            Self::TooMany(limit) => write!(f, "the archive has more than {limit} entries"),
            Self::TooSlow => f.write_str("the archive takes too long to read"),
            Self::BadPath(path, why) => write!(f, "the path {:?} {why}", shown(path)),
            Self::NotAFile(path, kind) => {
                write!(f, "{:?} is {kind}; a site has files and folders only", shown(path))
            }
            Self::FileTooLarge(path, limit) => {
                write!(f, "{:?} has more than {} MiB", shown(path), limit >> 20)
            }
            Self::Twice(path) => write!(f, "the archive has {:?} twice", shown(path)),
            Self::Confusable(path, other) => {
                let (path, other) = (shown(path), shown(other));
                write!(f, "{path:?} and {other:?} differ only in the form of their letters")
            }
            Self::Overlap => f.write_str("files of the archive share bytes"),
            Self::Method(path) => {
                write!(f, "{:?} is encrypted, or neither stored nor deflated", shown(path))
            }
            Self::Disk(error) => write!(f, "cannot keep the archive's content: {error}"),
        }
    }
}

impl std::error::Error for Refusal {}
