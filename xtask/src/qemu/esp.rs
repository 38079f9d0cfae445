//! An EFI system partition with one boot file, as a whole disk without a partition table.
//!
//! That is removable media to UEFI (specification 2.10, section 13.3.1.3): firmware starts
//! `\EFI\BOOT\BOOTX64.EFI` from it. The guest's firmware reads the file from a disk, as on a real
//! machine, and the file needs no tool and no root to get there. The format is FAT32 by
//! Microsoft's "FAT: General Overview of On-Disk Format", version 1.03; all files are contiguous.

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::path::Path;

use anyhow::{Context, Result, ensure};

/// Where firmware looks, in the form of directory entries (eight and three characters).
const PATH: [&[u8; 11]; 3] = [b"EFI        ", b"BOOT       ", b"BOOTX64 EFI"];

const SECTOR: u32 = 512;

/// Sectors of a cluster; 4 KiB is what `mkfs.vfat` takes for this size.
const PER_CLUSTER: u32 = 8;

const CLUSTER: u32 = SECTOR * PER_CLUSTER;

/// Sectors before the first table; 32 is usual for FAT32.
const RESERVED: u32 = 32;

/// Clusters of the volume, 512 MiB: above the 65,525 that make it FAT32. The file is sparse.
const CLUSTERS: u32 = 131_072;

/// Sectors of one table: four bytes for each cluster and for the two that do not exist.
const TABLE: u32 = ((CLUSTERS + 2) * 4).div_ceil(SECTOR);

/// Clusters 2, 3 and 4 hold the root and the two folders; the file follows.
const FIRST_FILE: u32 = 5;

const DIRECTORY: u8 = 0x10;
const ARCHIVE: u8 = 0x20;
const END: u32 = 0x0fff_ffff;

/// Writes a volume that boots `efi` to `out`.
pub fn write(efi: &Path, out: &Path) -> Result<()> {
    let context = || format!("cannot copy {} to the boot disk {}", efi.display(), out.display());
    let mut source = File::open(efi).with_context(context)?;
    let size = u32::try_from(source.metadata().with_context(context)?.len()).ok();
    let fits = |size: &u32| size.div_ceil(CLUSTER) <= CLUSTERS - FIRST_FILE;
    let size = size
        .filter(fits)
        .with_context(|| format!("{} is too big for a boot disk", efi.display()))?;
    let mut disk = File::create(out).with_context(context)?;
    write_volume(&mut disk, size).with_context(context)?;
    disk.seek(SeekFrom::Start(offset(FIRST_FILE))).with_context(context)?;
    let copied = io::copy(&mut source, &mut disk).with_context(context)?;
    ensure!(copied == u64::from(size), "{} changed while it was copied", efi.display());
    let length = u64::from(RESERVED + 2 * TABLE + CLUSTERS * PER_CLUSTER) * u64::from(SECTOR);
    disk.set_len(length).with_context(context)
}

fn write_volume(disk: &mut File, size: u32) -> io::Result<()> {
    disk.write_all(&boot_sector())?;
    disk.write_all(&info_sector())?;
    let table = table(size);
    for copy in 0..2 {
        disk.seek(SeekFrom::Start(u64::from(RESERVED + copy * TABLE) * u64::from(SECTOR)))?;
        disk.write_all(&table)?;
    }
    for (cluster, content) in (2..).zip(folders(size)) {
        disk.seek(SeekFrom::Start(offset(cluster)))?;
        disk.write_all(&content)?;
    }
    Ok(())
}

/// Where a cluster's bytes are.
fn offset(cluster: u32) -> u64 {
    u64::from(RESERVED + 2 * TABLE + (cluster - 2) * PER_CLUSTER) * u64::from(SECTOR)
}

fn boot_sector() -> Vec<u8> {
    let mut out = Vec::from(*b"\xeb\x58\x90KILN    ");
    out.extend(512_u16.to_le_bytes());
    out.push(PER_CLUSTER.to_le_bytes()[0]);
    out.extend(&RESERVED.to_le_bytes()[..2]);
    // Two tables; no root entries, no 16-bit sizes; a fixed disk.
    out.extend([2, 0, 0, 0, 0, 0xf8, 0, 0]);
    // Geometry nobody uses, no hidden sectors.
    out.extend([63, 0, 255, 0, 0, 0, 0, 0]);
    out.extend((RESERVED + 2 * TABLE + CLUSTERS * PER_CLUSTER).to_le_bytes());
    out.extend(TABLE.to_le_bytes());
    // Both tables in use, version 0.0, root at cluster 2, information in sector 1, no copy.
    out.extend([0, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0]);
    out.extend([0; 12]);
    // Drive 0x80; the signature says that serial number, label and type follow.
    out.extend(*b"\x80\x00\x29KILNKILN ESP   FAT32   ");
    sealed(out)
}

/// Free clusters and where to look for one: unknown, which is allowed.
fn info_sector() -> Vec<u8> {
    let mut out = Vec::from(*b"RRaA");
    out.resize(484, 0);
    out.extend(*b"rrAa\xff\xff\xff\xff\xff\xff\xff\xff");
    sealed(out)
}

fn sealed(mut sector: Vec<u8>) -> Vec<u8> {
    sector.resize(510, 0);
    sector.extend([0x55, 0xaa]);
    sector
}

fn table(size: u32) -> Vec<u8> {
    // Entry 0 repeats the media byte, entry 1 says that the volume is clean; then three folders.
    let mut entries = vec![0x0fff_fff8, END, END, END, END];
    let end = FIRST_FILE + size.div_ceil(CLUSTER);
    entries.extend((FIRST_FILE + 1..end).chain((end > FIRST_FILE).then_some(END)));
    entries.into_iter().flat_map(u32::to_le_bytes).collect()
}

/// The root, `\EFI` and `\EFI\BOOT`. In `..` the root is cluster 0, by the specification.
fn folders(size: u32) -> [Vec<u8>; 3] {
    let dots = |own, parent| {
        [entry(b".          ", DIRECTORY, own, 0), entry(b"..         ", DIRECTORY, parent, 0)]
            .concat()
    };
    let start = if size == 0 { 0 } else { FIRST_FILE };
    [
        entry(PATH[0], DIRECTORY, 3, 0).to_vec(),
        [dots(3, 0), entry(PATH[1], DIRECTORY, 4, 0).to_vec()].concat(),
        [dots(4, 3), entry(PATH[2], ARCHIVE, start, size).to_vec()].concat(),
    ]
}

/// One directory entry of 32 bytes, with no times.
fn entry(name: &[u8; 11], attributes: u8, cluster: u32, size: u32) -> [u8; 32] {
    let mut out = [0; 32];
    out[..11].copy_from_slice(name);
    out[11] = attributes;
    let cluster = cluster.to_le_bytes();
    out[20..22].copy_from_slice(&cluster[2..]);
    out[26..28].copy_from_slice(&cluster[..2]);
    out[28..].copy_from_slice(&size.to_le_bytes());
    out
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    /// `fatfs` is a reader that nobody here wrote.
    fn read_back(content: &[u8]) -> Vec<u8> {
        let dir = tempfile::tempdir().unwrap();
        let (efi, out) = (dir.path().join("efi"), dir.path().join("disk"));
        std::fs::write(&efi, content).unwrap();
        write(&efi, &out).unwrap();
        let volume =
            fatfs::FileSystem::new(File::open(out).unwrap(), fatfs::FsOptions::new()).unwrap();
        assert_eq!(volume.fat_type(), fatfs::FatType::Fat32);
        let mut bytes = Vec::new();
        volume
            .root_dir()
            .open_file("EFI/BOOT/BOOTX64.EFI")
            .unwrap()
            .read_to_end(&mut bytes)
            .unwrap();
        bytes
    }

    #[test]
    fn another_reader_finds_the_file_whole() {
        for size in [0, 1, CLUSTER - 1, CLUSTER, CLUSTER + 1, 300_000] {
            let content: Vec<u8> = (0..size).map(|n| (n % 251) as u8).collect();
            assert!(read_back(&content) == content, "{size} bytes");
        }
    }

    #[test]
    fn what_is_too_big_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let efi = dir.path().join("efi");
        File::create(&efi).unwrap().set_len(u64::from(CLUSTERS) * u64::from(CLUSTER)).unwrap();
        let error = write(&efi, &dir.path().join("disk")).unwrap_err().to_string();
        assert!(error.contains("too big"), "{error}");
    }
}
