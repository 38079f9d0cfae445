//! The content of a disk without a GUID partition table: blank, begun by Kiln, or a stranger's.
//!
//! A disk is blank if its first 5 MiB and its last 2 MiB are zero. Every signature that blkid knows
//! lies there, the copies of LUKS2's header (up to 4 MiB) and the labels of RAID controllers (up to
//! 1.6 MiB before the end) included. So a signature that no code here knows protects its disk too, and
//! the names are for the message only.

use std::fmt;

use kiln_contract::template::Template;

use super::gpt::Geometry;
use super::gpt::write::{self, NewTable, Step};
use super::make;
use super::signature::{self, Read};

/// The size of the beginning that must be zero.
pub const HEAD: u64 = 5 << 20;

/// The size of the end that must be zero.
pub const TAIL: u64 = 2 << 20;

/// The bytes that are compared at a time, a multiple of any block.
const CHUNK: usize = 64 * 1024;

/// The content of a disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// All zero where it counts.
    Blank,
    /// The beginning of a data partition with this GUID, whose making was cut short.
    Begun([u8; 16]),
    /// Anything else.
    Foreign(Foreign),
    /// An error of the disk, or no template to compare with.
    Unreadable,
}

/// A stranger's content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Foreign {
    /// A known signature.
    Known(&'static str),
    /// Data at this offset.
    Data(u64),
}

impl fmt::Display for Foreign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Known(name) => write!(f, "{name}"),
            Self::Data(at) => write!(f, "data at byte {at}"),
        }
    }
}

/// The place of a signature.
enum Place {
    /// From the beginning of the disk.
    At(u64),
    /// This far from the end, and then down to the alignment.
    End(u64, u64),
    /// In the block after the first.
    SecondBlock,
    /// In the last block.
    LastBlock,
}

/// Signatures that [`signature`] leaves out, because nothing is found by their labels.
const SIGNATURES: [(&str, Place, &[u8]); 9] = [
    ("linux_raid_member", Place::End(8192, 4096), b"\xfc\x4e\x2b\xa9"),
    ("linux_raid_member", Place::End(65536, 65536), b"\xfc\x4e\x2b\xa9"),
    ("zfs_member", Place::At(128 << 10), b"\x0c\xb1\xba\0\0\0\0\0"),
    ("BitLocker", Place::At(3), b"-FVE-FS-"),
    ("ntfs", Place::At(3), b"NTFS    "),
    ("exfat", Place::At(3), b"EXFAT   "),
    ("a damaged GUID partition table", Place::SecondBlock, b"EFI PART"),
    ("the backup of a GUID partition table", Place::LastBlock, b"EFI PART"),
    ("an MBR partition table", Place::At(510), b"\x55\xaa"),
];

/// Looks at a disk through `read`.
pub fn look(geometry: Geometry, template: &Template<'_>, read: &mut Read<'_>) -> Content {
    classify(geometry, template, read).unwrap_or(Content::Unreadable)
}

fn classify(geometry: Geometry, template: &Template<'_>, read: &mut Read<'_>) -> Option<Content> {
    let mark = read(write::mark_at(geometry), usize::try_from(geometry.block).ok()?)?;
    let begun = write::marked(geometry, &mark);
    let table = begun.and_then(|id| NewTable::new(geometry, id));
    let expected = table.map(|table| make::steps(&table, template)).unwrap_or_default();
    let bytes = geometry.bytes();
    let head = (0..HEAD.min(bytes)).step_by(CHUNK);
    let tail = (bytes.saturating_sub(TAIL)..bytes).step_by(CHUNK);
    for at in head.chain(tail) {
        let size = usize::try_from(bytes - at).map_or(CHUNK, |left| left.min(CHUNK));
        let chunk = read(at, size)?;
        if let Some(strange) = first_strange(&chunk, at, mark.len(), &expected) {
            let known = name(geometry, read);
            return Some(Content::Foreign(known.map_or(Foreign::Data(strange), Foreign::Known)));
        }
    }
    Some(begun.map_or(Content::Blank, Content::Begun))
}

/// Returns the offset of the first block in a chunk that is neither zero nor as an unfinished making
/// would leave it.
fn first_strange(chunk: &[u8], at: u64, block: usize, expected: &[Step<'_>]) -> Option<u64> {
    if is_zero(chunk) {
        return None;
    }
    let mut wanted = vec![0; chunk.len()];
    for step in expected {
        make::apply(step, at, &mut wanted);
    }
    let blocks = chunk.chunks(block).zip(wanted.chunks(block));
    let strange = blocks.map(|(is, want)| !is_zero(is) && is != want);
    strange.into_iter().position(|strange| strange).map(|index| at + (index * block) as u64)
}

fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|&byte| byte == 0)
}

/// Returns the name of the first signature that is found.
fn name(geometry: Geometry, read: &mut Read<'_>) -> Option<&'static str> {
    if let Some(content) = signature::identify(read) {
        return Some(content.kind);
    }
    let bytes = geometry.bytes();
    let found = SIGNATURES.iter().find(|(_, place, magic)| {
        let at = match place {
            Place::At(at) => Some(*at),
            Place::End(distance, align) => bytes.checked_sub(*distance).map(|at| at - at % align),
            Place::SecondBlock => Some(geometry.block),
            Place::LastBlock => bytes.checked_sub(geometry.block),
        };
        at.and_then(|at| read(at, magic.len())).is_some_and(|is| is == *magic)
    });
    found.map(|(name, _, _)| *name)
}

#[cfg(test)]
mod tests;
