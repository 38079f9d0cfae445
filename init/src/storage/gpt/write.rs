//! Writes tables: one for a blank disk, and a larger one for a disk that has grown.
//!
//! Both are lists of steps, so that a test can stop them anywhere, as a power cut does. A table becomes
//! valid by its header, one block, which a disk writes whole or not at all. The kernel does not
//! read the backup while the primary table is damaged, so the primary table is never damaged:
//!
//! * The entries of a larger table go next to the old ones, and then the header points to them.
//! * The table of a blank disk begins with its one entry, which also marks a disk whose making was
//!   cut short. All that follows can be computed from the entry, so the disk can be told from a
//!   stranger's.

use std::borrow::Cow;

use kiln_base::crc::crc32;

use super::{GROW, Geometry, Header, Partition, VAR};

/// The alignment of partitions in bytes.
pub const ALIGN: u64 = 1 << 20;

/// The specification's size of a table: 128 entries of 128 bytes.
const ENTRIES: u32 = 128;
const ENTRY: u32 = 128;

/// The block of the primary header.
const PRIMARY: u64 = 1;

/// The first block of the primary entries in a new table.
const FIRST_ENTRIES: u64 = 2;

/// The revision and the size of the header.
const REVISION: u32 = 0x1_0000;
const HEADER_BYTES: u32 = 92;

/// The partition's name.
const NAME: &str = "kiln-var";

/// One step of a change to a disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step<'a> {
    /// Writes bytes at an offset.
    Write(u64, Cow<'a, [u8]>),
    /// Writes zeros: offset and length.
    Zero(u64, u64),
    /// Waits until all earlier steps are on the disk.
    Sync,
}

/// A table with one partition for a blank disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewTable {
    geometry: Geometry,
    /// The first and the last block of the partition.
    pub first: u64,
    /// The last block of the partition.
    pub last: u64,
    disk: [u8; 16],
    entries: Vec<u8>,
}

impl NewTable {
    /// Computes the table with this GUID for the partition. Returns `None` if the disk is too small.
    ///
    /// The disk's GUID differs from the partition's in one bit.
    #[must_use]
    pub fn new(geometry: Geometry, id: [u8; 16]) -> Option<Self> {
        let first = ALIGN / geometry.block;
        let last = last_of_partition(geometry)?;
        if last <= first {
            return None;
        }
        let mut disk = id;
        disk[15] ^= 1;
        let mut entries = [&VAR[..], &id].concat();
        for number in [first, last, GROW] {
            entries.extend(number.to_le_bytes());
        }
        entries.extend(NAME.encode_utf16().flat_map(u16::to_le_bytes));
        entries.resize((ENTRIES * ENTRY) as usize, 0);
        Some(Self { geometry, first, last, disk, entries })
    }

    /// Returns the offset of the partition in bytes.
    #[must_use]
    pub fn start(&self) -> u64 {
        self.first * self.geometry.block
    }

    /// Returns the size of the partition in bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        (self.last + 1 - self.first) * self.geometry.block
    }

    /// Returns the steps before the partition is filled.
    #[must_use]
    pub fn mark(&self) -> Vec<Step<'static>> {
        let block = self.entries[..to_usize(self.geometry.block)].to_vec();
        vec![Step::Write(FIRST_ENTRIES * self.geometry.block, block.into()), Step::Sync]
    }

    /// Returns the steps after the partition was filled. The last write makes the table valid.
    #[must_use]
    pub fn finish(&self) -> Vec<Step<'static>> {
        let block = self.geometry.block;
        let tail = self.geometry.blocks - 1 - entry_blocks(block, self.entries.len());
        vec![
            Step::Write(tail * block, self.entries.clone().into()),
            self.header(self.geometry.blocks - 1, PRIMARY, tail),
            protective(self.geometry),
            Step::Sync,
            self.header(PRIMARY, self.geometry.blocks - 1, FIRST_ENTRIES),
            Step::Sync,
        ]
    }

    fn header(&self, own: u64, other: u64, first_block: u64) -> Step<'static> {
        let header = Header {
            other,
            first_usable: self.first,
            last_usable: last_usable(self.geometry, self.entries.len()).unwrap_or(self.last),
            disk: self.disk,
            first_block,
            count: ENTRIES,
            size: ENTRY,
            checksum: crc32(&self.entries),
        };
        header_block(self.geometry.block, own, &header)
    }
}

/// Returns the GUID of a UUID. The first three fields are little-endian (appendix A).
#[must_use]
pub fn id(mut uuid: [u8; 16]) -> [u8; 16] {
    uuid[..4].reverse();
    uuid[4..6].reverse();
    uuid[6..8].reverse();
    uuid
}

/// The marks that an unfinished making leaves in the block of the first entries: returns the GUID of
/// the partition if the block is that of a new table for this disk.
#[must_use]
pub fn marked(geometry: Geometry, block: &[u8]) -> Option<[u8; 16]> {
    let id: [u8; 16] = block.get(16..32)?.try_into().ok()?;
    let table = NewTable::new(geometry, id)?;
    (table.entries.get(..block.len())? == block).then_some(id)
}

/// The offset of the block that [`marked`] takes.
#[must_use]
pub fn mark_at(geometry: Geometry) -> u64 {
    FIRST_ENTRIES * geometry.block
}

/// The change of a table to the size of a disk that has grown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Growth {
    /// The steps.
    pub steps: Vec<Step<'static>>,
    /// The partition's new last block.
    pub last: u64,
}

/// Computes the change for a disk that is larger than its table, if `partition` is the last one on
/// it. `entries` are those that `header` describes.
#[must_use]
pub fn grow(
    geometry: Geometry,
    header: &Header,
    entries: &[u8],
    partition: &Partition,
) -> Option<Growth> {
    let block = geometry.block;
    if header.other >= geometry.blocks - 1 || header.size != ENTRY {
        return None;
    }
    let used = all(entries)?;
    let lowest = used.iter().map(|&(first, _)| first).min()?;
    let highest = used.iter().map(|&(_, last)| last).max()?;
    let length = entry_blocks(block, entries.len());
    // The new entries go next to the old ones, on either side of them.
    let places = [FIRST_ENTRIES, FIRST_ENTRIES + length, FIRST_ENTRIES + 2 * length];
    let apart =
        |&place: &u64| place.abs_diff(header.first_block) >= length && place + length <= lowest;
    let place = places.into_iter().find(apart)?;
    let last = last_of_partition(geometry)?.max(partition.last);
    if highest != partition.last || last > last_usable(geometry, entries.len())? {
        return None;
    }
    let mut entries = entries.to_vec();
    let at = (partition.number as usize - 1) * ENTRY as usize + 40;
    entries.get_mut(at..at + 8)?.copy_from_slice(&last.to_le_bytes());
    let tail = geometry.blocks - 1 - length;
    let header = Header {
        other: geometry.blocks - 1,
        first_usable: header.first_usable.max(place + length),
        last_usable: last_usable(geometry, entries.len())?,
        first_block: place,
        checksum: crc32(&entries),
        ..*header
    };
    let backup = Header { other: PRIMARY, first_block: tail, ..header };
    let steps = vec![
        Step::Write(tail * block, entries.clone().into()),
        header_block(block, geometry.blocks - 1, &backup),
        protective(geometry),
        Step::Write(place * block, entries.into()),
        Step::Sync,
        header_block(block, PRIMARY, &header),
        Step::Sync,
    ];
    Some(Growth { steps, last })
}

/// Returns the first and last block of every partition. `None` if one of them is malformed.
fn all(entries: &[u8]) -> Option<Vec<(u64, u64)>> {
    let used = entries.chunks(ENTRY as usize).filter(|entry| !entry.starts_with(&[0; 16]));
    used.map(|entry| super::partition(0, entry).map(|found| (found.first, found.last))).collect()
}

/// Returns the last block of a partition that ends as late as the alignment allows.
fn last_of_partition(geometry: Geometry) -> Option<u64> {
    let usable = last_usable(geometry, (ENTRIES * ENTRY) as usize)? + 1;
    let aligned = usable - usable % (ALIGN / geometry.block);
    aligned.checked_sub(1)
}

fn last_usable(geometry: Geometry, entries: usize) -> Option<u64> {
    geometry.blocks.checked_sub(2 + entry_blocks(geometry.block, entries))
}

fn entry_blocks(block: u64, entries: usize) -> u64 {
    (entries as u64).div_ceil(block)
}

/// Returns the protective MBR (section 5.2.3), without which the kernel ignores the table.
fn protective(geometry: Geometry) -> Step<'static> {
    let mut out = vec![0; to_usize(geometry.block)];
    out[446..458].copy_from_slice(&[0, 0, 2, 0, 0xee, 0xff, 0xff, 0xff, 1, 0, 0, 0]);
    let size = u32::try_from(geometry.blocks - 1).unwrap_or(u32::MAX);
    out[458..462].copy_from_slice(&size.to_le_bytes());
    out[510..512].copy_from_slice(&[0x55, 0xaa]);
    Step::Write(0, out.into())
}

/// Returns the step that writes a header to its own block.
fn header_block(block: u64, own: u64, header: &Header) -> Step<'static> {
    let mut out = Vec::from(*b"EFI PART");
    for number in [REVISION, HEADER_BYTES, 0, 0] {
        out.extend(number.to_le_bytes());
    }
    for number in [own, header.other, header.first_usable, header.last_usable] {
        out.extend(number.to_le_bytes());
    }
    out.extend(header.disk);
    out.extend(header.first_block.to_le_bytes());
    for number in [header.count, header.size, header.checksum] {
        out.extend(number.to_le_bytes());
    }
    // The checksum is computed while its own field is zero.
    let sum = crc32(&out);
    out[16..20].copy_from_slice(&sum.to_le_bytes());
    out.resize(to_usize(block), 0);
    Step::Write(own * block, out.into())
}

/// Converts the size of a block, which is 4096 at most on real disks.
fn to_usize(block: u64) -> usize {
    usize::try_from(block).unwrap_or(512)
}

#[cfg(test)]
mod tests;
