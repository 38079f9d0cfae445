//! FAT (Microsoft, FAT32 File System Specification 1.03), of which the EFI system partition is one.
//!
//! The label is an entry of the root folder; the boot sector has a copy that not every program
//! keeps up to date.

use super::content::{Content, Read, Usage, u16_le, u32_le};

/// The bytes of the root folder that are searched: all of a FAT12's or FAT16's, which has 512
/// entries.
const FOLDER_BYTES_MAX: u64 = 16 * 1024;

/// The size of a folder's entry.
const ENTRY: usize = 32;

/// The attribute of the entry with the label, and those of a long name's parts, which include it.
const LABEL: u8 = 0x08;
const LONG_NAME: u8 = 0x0F;

/// The label of a file system without one.
const NO_NAME: &[u8] = b"NO NAME";

pub(super) fn fat(read: &mut Read<'_>) -> Option<Content> {
    let boot = read(0, 512)?;
    let layout = Layout::parse(&boot)?;
    let copy = boot.get(layout.label..layout.label + 11)?;
    let entry = read(layout.folder, layout.folder_bytes).and_then(|folder| label(&folder));
    let label = entry.unwrap_or_else(|| copy.to_vec()).trim_ascii_end().to_vec();
    let serial = boot.get(layout.serial..layout.serial + 4)?;
    let uuid = format!("{:02X}{:02X}-{:02X}{:02X}", serial[3], serial[2], serial[1], serial[0]);
    let label = if label == NO_NAME { Vec::new() } else { label };
    let uuid = if serial == [0; 4] { String::new() } else { uuid };
    Some(Content { kind: "vfat", usage: Usage::FileSystem, label, uuid })
}

/// The places of the fields, as offsets in the boot sector, and of the root folder on the device.
struct Layout {
    label: usize,
    serial: usize,
    folder: u64,
    folder_bytes: usize,
}

impl Layout {
    fn parse(boot: &[u8]) -> Option<Self> {
        let sector = u64::from(u16_le(boot, 11)?);
        let cluster = u64::from(*boot.get(13)?);
        let reserved = u64::from(u16_le(boot, 14)?);
        let tables = u64::from(*boot.get(16)?);
        let media = *boot.get(21)?;
        let sane = boot.get(510..512)? == [0x55, 0xAA]
            && (512..=4096).contains(&sector)
            && sector.is_power_of_two()
            && cluster.is_power_of_two()
            && reserved > 0
            && (1..=2).contains(&tables)
            && (media == 0xF0 || media >= 0xF8);
        if !sane {
            return None;
        }
        let entries = u64::from(u16_le(boot, 17)?);
        let small = u64::from(u16_le(boot, 22)?);
        if small > 0 && boot.get(54..57)? == b"FAT" {
            let folder = (reserved + tables * small) * sector;
            let bytes = (entries * ENTRY as u64).min(FOLDER_BYTES_MAX);
            Some(Self { label: 43, serial: 39, folder, folder_bytes: usize::try_from(bytes).ok()? })
        } else if small == 0 && boot.get(82..87)? == b"FAT32" {
            let large = u64::from(u32_le(boot, 36)?);
            let root = u64::from(u32_le(boot, 44)?.checked_sub(2)?);
            let folder = (reserved + tables * large + root * cluster) * sector;
            let bytes = (cluster * sector).min(FOLDER_BYTES_MAX);
            Some(Self { label: 71, serial: 67, folder, folder_bytes: usize::try_from(bytes).ok()? })
        } else {
            None
        }
    }
}

/// Returns the label in a root folder. A free entry ends the folder, and 0xE5 marks a deleted one.
fn label(folder: &[u8]) -> Option<Vec<u8>> {
    let entries = folder.chunks_exact(ENTRY).take_while(|entry| entry[0] != 0);
    let mut labels = entries.filter(|entry| {
        entry[0] != 0xE5 && entry[11] & LABEL != 0 && entry[11] & LONG_NAME != LONG_NAME
    });
    labels.next().map(|entry| entry[..11].to_vec())
}
