//! GUID Partition Table: which partition has a type (UEFI specification 2.10, chapter 5.3).
//!
//! The kernel makes the partitions, but does not say their types. Read only; the backup table is
//! not tried, since a table that the kernel did not accept has no partitions anyway.

use std::fmt;

/// The Discoverable Partitions type for `/var`, 4d21b016-b534-45c2-a9fb-5c16e091fd2d, as it lies
/// on the disk: the first three fields little-endian.
pub const VAR: [u8; 16] = [
    0x16, 0xb0, 0x21, 0x4d, 0x34, 0xb5, 0xc2, 0x45, 0xa9, 0xfb, 0x5c, 0x16, 0xe0, 0x91, 0xfd, 0x2d,
];

/// Most entries that are looked at; the usual table has 128.
const ENTRIES_MAX: u32 = 1024;

/// Why bytes are no partition table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GptError {
    /// No "EFI PART" at the beginning: not partitioned, or not with GPT.
    NoSignature,
    /// Sizes or places that the specification does not allow.
    BadHeader,
    /// A checksum does not fit.
    BadChecksum,
}

impl fmt::Display for GptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoSignature => "no GUID partition table",
            Self::BadHeader => "damaged GUID partition table: sizes make no sense",
            Self::BadChecksum => "damaged GUID partition table: checksum does not fit",
        })
    }
}

/// Where the entries are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// First block of the entries.
    pub first_block: u64,
    /// Number of entries.
    pub count: u32,
    /// Bytes per entry.
    pub size: u32,
    checksum: u32,
}

impl Header {
    /// Bytes of all entries.
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

/// Reads the header: the disk's second block.
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

/// Numbers, from 1 as the kernel counts, of the partitions with a type.
pub fn partitions(header: &Header, entries: &[u8], kind: &[u8; 16]) -> Result<Vec<u32>, GptError> {
    let entries = entries.get(..header.bytes()).ok_or(GptError::BadHeader)?;
    if crc32(entries) != header.checksum {
        return Err(GptError::BadChecksum);
    }
    let numbered = (1..).zip(entries.chunks(header.size as usize));
    Ok(numbered.filter(|(_, entry)| entry.starts_with(kind)).map(|(number, _)| number).collect())
}

/// CRC-32 as in Ethernet, bit by bit: a table's worth of code for 16 KiB once is not worth it.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 }
        })
    })
}

#[cfg(test)]
mod tests;
