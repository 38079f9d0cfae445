//! An EFI system partition with one boot file, as a whole disk without a partition table.
//!
//! UEFI treats such a disk as removable media (specification 2.10, section 13.3.1.3) and starts
//! `\EFI\BOOT\BOOTX64.EFI` from it. So the guest's firmware reads the file from a disk, as on a
//! real machine, and the builder needs neither a tool nor root to put the file there.
//!
//! `fatfs` has no clock in this build (its feature `chrono` is off), so equal files give equal disks.

use std::fs::File;
use std::io::{self, Cursor, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use fatfs::{FatType, FileSystem, FormatVolumeOptions, FsOptions};

/// The folder in which firmware looks, outermost first, and the file that it starts.
const FOLDERS: [&str; 2] = ["EFI", "EFI/BOOT"];
const BOOT_FILE: &str = "EFI/BOOT/BOOTX64.EFI";

/// The folders in which the EFI stub looks for files `NAME.cred` (systemd-stub(7)), outermost first.
const CREDENTIAL_FOLDERS: [&str; 2] = ["loader", "loader/credentials"];

const SECTOR_BYTES: u16 = 512;

/// The size that `mkfs.vfat` takes for a volume of this length.
const CLUSTER_BYTES: u32 = 4096;

/// The volume's length: 131,072 clusters, where FAT32 needs at least 65,525. The disk is sparse.
const VOLUME_BYTES: u64 = 512 * 1024 * 1024;

/// Serial number of the volume; a fixed one, because the disk must not depend on the time.
const VOLUME_ID: u32 = 0x4e4c_494b;

/// Memory for tables and folders, which take a little more than 1 MiB.
const TABLES_BYTES: u64 = 2 * 1024 * 1024;

/// Writes a volume that boots `efi` to `out`, with these files as credentials.
///
/// The volume is made in memory up to the last byte in use, because `fatfs` reads and writes each
/// entry of the allocation table by itself: 18,000 entries for an image, with several calls each.
pub fn write(efi: &Path, credentials: &[PathBuf], out: &Path) -> Result<()> {
    let context = || format!("cannot copy {} to the boot disk {}", efi.display(), out.display());
    let mut source = File::open(efi).with_context(context)?;
    let size = source.metadata().with_context(context)?.len();
    ensure!(
        size <= VOLUME_BYTES - TABLES_BYTES,
        "{} is too big for a boot disk: {size} bytes",
        efi.display()
    );
    let capacity = usize::try_from(size + TABLES_BYTES).with_context(context)?;
    let mut volume = Cursor::new(Vec::with_capacity(capacity));
    format(&mut volume).with_context(context)?;
    let copied = fill(&mut volume, &mut source, credentials).with_context(context)?;
    ensure!(copied == size, "{} changed while it was copied", efi.display());
    let mut disk = File::create(out).with_context(context)?;
    disk.write_all(volume.get_ref()).with_context(context)?;
    disk.set_len(VOLUME_BYTES).with_context(context)
}

fn format(volume: &mut Cursor<Vec<u8>>) -> io::Result<()> {
    let sectors = u32::try_from(VOLUME_BYTES / u64::from(SECTOR_BYTES));
    let options = FormatVolumeOptions::new()
        .total_sectors(sectors.map_err(io::Error::other)?)
        .bytes_per_sector(SECTOR_BYTES)
        .bytes_per_cluster(CLUSTER_BYTES)
        .fat_type(FatType::Fat32)
        .volume_id(VOLUME_ID)
        .volume_label(*b"KILN ESP   ");
    fatfs::format_volume(volume, options)
}

/// Puts the boot file into an empty volume and returns its length in bytes.
fn fill(
    volume: &mut Cursor<Vec<u8>>,
    source: &mut File,
    credentials: &[PathBuf],
) -> io::Result<u64> {
    let volume = FileSystem::new(volume, FsOptions::new())?;
    for folder in FOLDERS {
        volume.root_dir().create_dir(folder)?;
    }
    let mut target = volume.root_dir().create_file(BOOT_FILE)?;
    let copied = io::copy(source, &mut target)?;
    target.flush()?;
    drop(target);
    if !credentials.is_empty() {
        for folder in CREDENTIAL_FOLDERS {
            volume.root_dir().create_dir(folder)?;
        }
    }
    let [_, folder] = CREDENTIAL_FOLDERS;
    for file in credentials {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        let mut target = volume.root_dir().create_file(&format!("{folder}/{name}"))?;
        io::copy(&mut File::open(file)?, &mut target)?;
        target.flush()?;
    }
    volume.unmount()?;
    Ok(copied)
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    /// Writes a boot disk for a file with this content and returns the disk.
    fn disk(content: &[u8]) -> File {
        let dir = tempfile::tempdir().unwrap();
        let (efi, out) = (dir.path().join("efi"), dir.path().join("disk"));
        std::fs::write(&efi, content).unwrap();
        let credential = dir.path().join("kiln.join.cred");
        std::fs::write(&credential, "a credential").unwrap();
        write(&efi, &[credential], &out).unwrap();
        File::options().read(true).write(true).open(out).unwrap()
    }

    fn read_back(content: &[u8]) -> Vec<u8> {
        let volume = FileSystem::new(disk(content), FsOptions::new()).unwrap();
        assert_eq!(volume.fat_type(), FatType::Fat32);
        assert!(!volume.read_status_flags().unwrap().dirty());
        let mut bytes = Vec::new();
        volume.root_dir().open_file(BOOT_FILE).unwrap().read_to_end(&mut bytes).unwrap();
        let mut credential = String::new();
        let path = "loader/credentials/kiln.join.cred";
        volume.root_dir().open_file(path).unwrap().read_to_string(&mut credential).unwrap();
        assert_eq!(credential, "a credential");
        bytes
    }

    #[test]
    fn a_file_of_any_length_is_read_back_whole() {
        for size in [0, 1, CLUSTER_BYTES - 1, CLUSTER_BYTES, CLUSTER_BYTES + 1, 300_000] {
            let content: Vec<u8> = (0..size).map(|n| (n % 251) as u8).collect();
            assert!(read_back(&content) == content, "{size} bytes");
        }
    }

    #[test]
    fn equal_files_give_equal_disks() {
        let used = |disk: File| {
            let mut bytes = Vec::new();
            disk.take(2 * TABLES_BYTES).read_to_end(&mut bytes).unwrap();
            bytes
        };
        assert!(used(disk(b"content")) == used(disk(b"content")));
    }

    /// Offsets are those of Microsoft's "FAT: General Overview of On-Disk Format", version 1.03.
    #[test]
    fn firmware_finds_short_names_and_a_valid_boot_sector() {
        let mut sector = [0; 512];
        let mut disk = disk(b"content");
        disk.read_exact(&mut sector).unwrap();
        assert_eq!((&sector[82..90], &sector[510..]), (&b"FAT32   "[..], &[0x55, 0xaa][..]));
        let mut names = Vec::new();
        disk.take(2 * TABLES_BYTES).read_to_end(&mut names).unwrap();
        for name in [b"EFI        \x10", b"BOOT       \x10", b"BOOTX64 EFI\x00"] {
            let found = names.chunks_exact(32).any(|entry| entry.starts_with(name));
            assert!(found, "{}", String::from_utf8_lossy(name));
        }
    }

    #[test]
    fn a_file_that_does_not_fit_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let efi = dir.path().join("efi");
        File::create(&efi).unwrap().set_len(VOLUME_BYTES).unwrap();
        let error = write(&efi, &[], &dir.path().join("disk")).unwrap_err().to_string();
        assert!(error.contains("too big"), "{error}");
    }
}
