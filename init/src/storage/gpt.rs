//! The GUID Partition Table: finds partitions by their type (UEFI specification 2.10, chapter 5.3).
//!
//! The kernel makes the partitions but does not report their types. The backup table is not tried: if
//! the kernel rejects the primary table, there are no partitions.

pub mod write;

use std::fmt;

use kiln_base::crc::crc32;

/// The Discoverable Partitions type for `/var`, 4d21b016-b534-45c2-a9fb-5c16e091fd2d, as on the
/// disk: the first three fields are little-endian.
pub const VAR: [u8; 16] = [
    0x16, 0xb0, 0x21, 0x4d, 0x34, 0xb5, 0xc2, 0x45, 0xa9, 0xfb, 0x5c, 0x16, 0xe0, 0x91, 0xfd, 0x2d,
];

/// The largest number of entries that is accepted. The usual table has 128.
const ENTRIES_MAX: u32 = 1024;

/// The reason why bytes are not a partition table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GptError {
    /// "EFI PART" is missing at the beginning: the disk has no GPT.
    NoSignature,
    /// Sizes or positions that the specification does not allow.
    BadHeader,
    /// A wrong checksum.
    BadChecksum,
}

impl fmt::Display for GptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoSignature => "no GUID partition table",
            Self::BadHeader => "damaged GUID partition table: invalid sizes",
            Self::BadChecksum => "damaged GUID partition table: wrong checksum",
        })
    }
}

/// Attributes of the Discoverable Partitions Specification.
const NO_AUTO: u64 = 1 << 63;
const READ_ONLY: u64 = 1 << 60;
const GROW: u64 = 1 << 59;

/// A partition without its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Partition {
    /// The kernel's number; the first entry has number 1.
    pub number: u32,
    /// The first block.
    pub first: u64,
    /// The last block.
    pub last: u64,
    attributes: u64,
}

impl Partition {
    /// Returns a partition of a test.
    #[cfg(test)]
    pub(super) fn new(number: u32, first: u64, last: u64, attributes: u64) -> Self {
        Self { number, first, last, attributes }
    }

    /// True if the partition must not be mounted automatically.
    #[must_use]
    pub fn is_no_auto(&self) -> bool {
        self.attributes & NO_AUTO != 0
    }

    /// True if the partition must not be written.
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        self.attributes & READ_ONLY != 0
    }

    /// True if the file system should be grown to the partition's size.
    #[must_use]
    pub fn grows(&self) -> bool {
        self.attributes & GROW != 0
    }
}

/// A disk's logical blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Geometry {
    /// The size of a block in bytes, a power of two.
    pub block: u64,
    /// The number of blocks.
    pub blocks: u64,
}

impl Geometry {
    /// Returns the disk's size in bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.block.saturating_mul(self.blocks)
    }
}

/// The table's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// The block of the other header.
    pub other: u64,
    /// The first block that a partition may use.
    pub first_usable: u64,
    /// The last block that a partition may use.
    pub last_usable: u64,
    /// The disk's GUID.
    pub disk: [u8; 16],
    /// The first block of the entries.
    pub first_block: u64,
    /// The number of entries.
    pub count: u32,
    /// The size of an entry in bytes.
    pub size: u32,
    checksum: u32,
}

impl Header {
    /// Returns the size of all entries in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.count as usize * self.size as usize
    }
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..at + 8)?.try_into().ok().map(u64::from_le_bytes)
}

/// Parses the header, which is the disk's second block.
pub fn header(block: &[u8]) -> Result<Header, GptError> {
    if block.get(..8) != Some(b"EFI PART") {
        return Err(GptError::NoSignature);
    }
    let length = u32_at(block, 12).ok_or(GptError::BadHeader)? as usize;
    let covered = block.get(..length).filter(|_| length >= 92).ok_or(GptError::BadHeader)?;
    let expected = u32_at(block, 16).ok_or(GptError::BadHeader)?;
    let mut zeroed = covered.to_vec();
    zeroed[16..20].fill(0);
    if crc32(&zeroed) != expected {
        return Err(GptError::BadChecksum);
    }
    fields(block).filter(Header::is_sane).ok_or(GptError::BadHeader)
}

fn fields(block: &[u8]) -> Option<Header> {
    Some(Header {
        other: u64_at(block, 32)?,
        first_usable: u64_at(block, 40)?,
        last_usable: u64_at(block, 48)?,
        disk: block.get(56..72)?.try_into().ok()?,
        first_block: u64_at(block, 72)?,
        count: u32_at(block, 80)?,
        size: u32_at(block, 84)?,
        checksum: u32_at(block, 88)?,
    })
}

impl Header {
    fn is_sane(&self) -> bool {
        self.first_block >= 2
            && (1..=ENTRIES_MAX).contains(&self.count)
            && (128..=4096).contains(&self.size)
            && self.size.is_power_of_two()
    }
}

/// Returns the partitions of a type.
pub fn partitions(
    header: &Header,
    entries: &[u8],
    kind: &[u8; 16],
) -> Result<Vec<Partition>, GptError> {
    let entries = entries.get(..header.bytes()).ok_or(GptError::BadHeader)?;
    if crc32(entries) != header.checksum {
        return Err(GptError::BadChecksum);
    }
    let numbered = (1..).zip(entries.chunks(header.size as usize));
    let found = numbered.filter(|(_, entry)| entry.starts_with(kind));
    Ok(found.filter_map(|(number, entry)| partition(number, entry)).collect())
}

fn partition(number: u32, entry: &[u8]) -> Option<Partition> {
    let (first, last) = (u64_at(entry, 32)?, u64_at(entry, 40)?);
    Some(Partition { number, first, last, attributes: u64_at(entry, 48)? })
}

#[cfg(test)]
mod tests;
