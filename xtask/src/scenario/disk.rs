//! A disk with one data partition: a GUID partition table (UEFI specification 2.10, chapter 5) and ext4.
//!
//! PID 1 finds the partition by its type, `/var` of the Discoverable Partitions Specification. The
//! table is written here and the file system by a locked `mke2fs`, so that PID 1's code is not tested
//! against itself.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use kiln_base::crc::crc32;

use crate::host::HostTool;

/// 4d21b016-b534-45c2-a9fb-5c16e091fd2d, in the order of the table (first three fields little-endian).
const VAR: [u8; 16] = [
    0x16, 0xb0, 0x21, 0x4d, 0x34, 0xb5, 0xc2, 0x45, 0xa9, 0xfb, 0x5c, 0x16, 0xe0, 0x91, 0xfd, 0x2d,
];

/// The GUIDs of disk and partition: any two that differ.
const DISK_ID: [u8; 16] = *b"kiln-test-disk-1";
const PARTITION_ID: [u8; 16] = *b"kiln-test-part-1";

const SECTOR: u64 = 512;

/// The size that the specification reserves for the table: 128 entries of 128 bytes.
const ENTRIES: u32 = 128;
const ENTRY: u32 = 128;
const TABLE_SECTORS: u64 = (ENTRIES as u64 * ENTRY as u64) / SECTOR;

/// The first sector of the partition, at 1 MiB.
const FIRST: u64 = 2048;

/// The offset of the partition in bytes, here and on disks that PID 1 makes.
pub const FIRST_BYTE: u64 = FIRST * SECTOR;

/// The offset in the partition of the first group descriptor's checksum (`bg_checksum`), with blocks
/// of 4 KiB.
pub const DESCRIPTOR_CHECKSUM: u64 = 4096 + 0x1e;

/// The properties of the partition that its table has.
#[derive(Debug, Clone, Copy)]
pub struct Flags {
    /// The type's GUID.
    pub kind: [u8; 16],
    /// The attributes.
    pub attributes: u64,
}

impl Default for Flags {
    fn default() -> Self {
        Self { kind: VAR, attributes: 0 }
    }
}

/// Makes the disk as a sparse file.
pub fn make(path: &Path, mib: u32, mke2fs: &HostTool) -> Result<()> {
    make_with(path, mib, mke2fs, Flags::default())
}

/// Makes the disk with other properties of its partition.
pub fn make_with(path: &Path, mib: u32, mke2fs: &HostTool, flags: Flags) -> Result<()> {
    let sectors = u64::from(mib) * 2048;
    let context = || format!("cannot make the disk {}", path.display());
    let mut disk = File::create(path).with_context(context)?;
    write_table(&mut disk, sectors, flags).with_context(context)?;
    drop(disk);
    let (_, last) = partition(sectors);
    let kib = (last + 1 - FIRST) / 2;
    let offset = format!("offset={},lazy_itable_init=1,nodiscard", FIRST * SECTOR);
    let command = mke2fs.command()?.args(["-q", "-F", "-t", "ext4", "-E", &offset]);
    command
        .arg(path)
        .arg(format!("{kib}k"))
        .output()
        .context("cannot make the data partition's file system")?;
    Ok(())
}

/// ext4's superblock (the kernel's Documentation/filesystems/ext4/super.rst): its offset in the partition,
/// and the offsets of its fields `s_magic`, `s_state` and `s_feature_incompat`.
const SUPERBLOCK: u64 = 1024;
const MAGIC: (usize, u16) = (0x38, 0xef53);
const STATE: usize = 0x3a;
const INCOMPATIBLE: usize = 0x60;

/// `EXT4_VALID_FS`: no error is known.
const VALID: u16 = 1;

/// `INCOMPAT_RECOVER`: the journal must be replayed, because the file system was not unmounted.
const RECOVER: u16 = 4;

/// Checks that the partition's file system was unmounted.
pub fn check_unmounted(path: &Path) -> Result<()> {
    let mut block = [0; 0x400];
    let mut disk = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    disk.seek(SeekFrom::Start(FIRST * SECTOR + SUPERBLOCK))?;
    disk.read_exact(&mut block).context("cannot read the superblock")?;
    is_clean(&block)
}

fn is_clean(block: &[u8; 0x400]) -> Result<()> {
    let field = |at: usize| u16::from_le_bytes([block[at], block[at + 1]]);
    ensure!(field(MAGIC.0) == MAGIC.1, "the data disk has no ext4 file system");
    ensure!(field(INCOMPATIBLE) & RECOVER == 0, "the data disk was not unmounted");
    ensure!(field(STATE) == VALID, "the file system of the data disk has errors");
    Ok(())
}

/// Returns the first and the last sector; the last MiB is left to the second table.
fn partition(sectors: u64) -> (u64, u64) {
    (FIRST, sectors - FIRST - 1)
}

fn write_table(disk: &mut (impl Write + Seek), sectors: u64, flags: Flags) -> std::io::Result<()> {
    let entries = entries(sectors, flags);
    let mut put = |sector: u64, bytes: &[u8]| {
        disk.seek(SeekFrom::Start(sector * SECTOR))?;
        disk.write_all(bytes)
    };
    put(0, &protective(sectors))?;
    put(1, &header(sectors, 1, sectors - 1, 2, &entries))?;
    put(2, &entries)?;
    put(sectors - 1 - TABLE_SECTORS, &entries)?;
    let mut second = header(sectors, sectors - 1, 1, sectors - 1 - TABLE_SECTORS, &entries);
    // The sector is written whole, because the file ends here.
    second.resize(second.len().next_multiple_of(512), 0);
    put(sectors - 1, &second)
}

/// The protective MBR, which makes the whole disk look occupied to old programs (section 5.2.3).
fn protective(sectors: u64) -> Vec<u8> {
    let mut out = vec![0; 446];
    out.extend([0, 0, 2, 0, 0xee, 0xff, 0xff, 0xff, 1, 0, 0, 0]);
    out.extend(u32::try_from(sectors - 1).unwrap_or(u32::MAX).to_le_bytes());
    out.resize(510, 0);
    out.extend([0x55, 0xaa]);
    out
}

fn entries(sectors: u64, flags: Flags) -> Vec<u8> {
    let (first, last) = partition(sectors);
    let mut out = [flags.kind, PARTITION_ID].concat();
    out.extend(first.to_le_bytes());
    out.extend(last.to_le_bytes());
    out.extend(flags.attributes.to_le_bytes());
    out.extend("kiln-var".encode_utf16().flat_map(u16::to_le_bytes));
    out.resize((ENTRIES * ENTRY) as usize, 0);
    out
}

fn header(sectors: u64, own: u64, other: u64, table: u64, entries: &[u8]) -> Vec<u8> {
    let build = |checksum: u32| {
        let mut out = Vec::from(*b"EFI PART\0\0\x01\0\x5c\0\0\0");
        out.extend(checksum.to_le_bytes());
        out.extend([0; 4]);
        for sector in [own, other, 2 + TABLE_SECTORS, sectors - 2 - TABLE_SECTORS] {
            out.extend(sector.to_le_bytes());
        }
        out.extend(DISK_ID);
        out.extend(table.to_le_bytes());
        for number in [ENTRIES, ENTRY, crc32(entries)] {
            out.extend(number.to_le_bytes());
        }
        out
    };
    // The checksum is computed while its own field is zero.
    build(crc32(&build(0)))
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    #[test]
    fn both_headers_are_valid_and_lead_to_the_same_table() {
        let sectors = 64 * 2048;
        let mut disk = Cursor::new(Vec::new());
        write_table(&mut disk, sectors, Flags::default()).unwrap();
        let disk = disk.into_inner();
        let byte = |sector: u64| usize::try_from(sector * SECTOR).unwrap();
        let at = |sector: u64, length: usize| &disk[byte(sector)..][..length];
        let number = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().unwrap());
        for own in [1, sectors - 1] {
            let mut header = at(own, 92).to_vec();
            let sum = u32::from_le_bytes(header[16..20].try_into().unwrap());
            header[16..20].fill(0);
            assert_eq!(crc32(&header), sum);
            assert_eq!(number(&header[24..32]), own);
            let table = at(number(&header[72..80]), (ENTRIES * ENTRY) as usize);
            assert_eq!(crc32(table), u32::from_le_bytes(header[88..92].try_into().unwrap()));
            assert_eq!((&table[..16], number(&table[32..40])), (&VAR[..], FIRST));
        }
        assert_eq!(disk.len() as u64, sectors * SECTOR);
    }

    #[test]
    fn a_file_system_that_was_not_unmounted_is_detected() {
        let block = |magic: u16, state: u16, incompatible: u16| {
            let mut block = [0; 0x400];
            for (at, value) in [(MAGIC.0, magic), (STATE, state), (INCOMPATIBLE, incompatible)] {
                block[at..at + 2].copy_from_slice(&value.to_le_bytes());
            }
            is_clean(&block).map_err(|error| error.to_string())
        };
        // A file system fresh from mke2fs has the features 0x2c2.
        assert_eq!(block(MAGIC.1, VALID, 0x2c2), Ok(()));
        assert!(block(MAGIC.1, VALID, 0x2c6).unwrap_err().contains("not unmounted"));
        assert!(block(MAGIC.1, 3, 0x2c2).unwrap_err().contains("errors"));
        assert!(block(0, VALID, 0).unwrap_err().contains("no ext4"));
    }
}
