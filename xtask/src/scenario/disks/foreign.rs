//! Contents of disks: blank, with a data partition, or as another system leaves them.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::Result;
use serde::Deserialize;

use crate::host::HostTool;
use crate::scenario::disk::{self, Flags};

/// The content of a disk at the first boot.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Content {
    /// All zero.
    #[default]
    Blank,
    /// A data partition, as an owner makes it.
    Data,
    /// A data partition with the flag no-auto.
    NoAuto,
    /// A data partition with the flag read-only.
    ReadOnly,
    /// ext4 on the whole disk, made by `mke2fs`.
    Ext4,
    /// XFS on the whole disk.
    Xfs,
    /// Btrfs, whose first superblock is at 64 KiB.
    Btrfs,
    /// A physical volume of LVM.
    Lvm,
    /// LUKS.
    Luks,
    /// A member of a RAID with its superblock at the end (md 1.0).
    RaidAtEnd,
    /// ZFS labels.
    Zfs,
    /// A swap area.
    Swap,
    /// An MBR with a partition.
    Mbr,
    /// A GUID partition table whose only partition has another type.
    OtherType,
    /// Only the backup of a GUID partition table.
    GptBackup,
    /// A volume of `BitLocker`.
    BitLocker,
    /// A hybrid ISO 9660 image.
    Iso,
    /// Bytes without any structure.
    Random,
}

impl Content {
    /// True if nothing may change the disk.
    pub fn is_foreign(self) -> bool {
        !matches!(self, Self::Blank | Self::Data)
    }
}

/// Writes a disk of this size with its content.
pub fn write(
    content: Content,
    path: &Path,
    mib: u32,
    sector: u32,
    mke2fs: &HostTool,
) -> Result<()> {
    let flags = |flags| disk::make_with(path, mib, mke2fs, flags);
    match content {
        Content::Data => return flags(Flags::default()),
        Content::NoAuto => return flags(Flags { attributes: 1 << 63, ..Flags::default() }),
        Content::ReadOnly => return flags(Flags { attributes: 1 << 60, ..Flags::default() }),
        Content::OtherType => {
            return flags(Flags { kind: *b"some-other-type!", ..Flags::default() });
        }
        _ => {}
    }
    let file = File::create_new(path)?;
    let bytes = u64::from(mib) << 20;
    file.set_len(bytes)?;
    if content == Content::Ext4 {
        mke2fs.command()?.args(["-q", "-F", "-t", "ext4"]).arg(path).output()?;
    }
    for (at, part) in parts(content, bytes, u64::from(sector)) {
        file.write_all_at(&part, at)?;
    }
    Ok(())
}

/// Returns the bytes of a content and their offsets.
fn parts(content: Content, end: u64, sector: u64) -> Vec<(u64, Vec<u8>)> {
    let text = |at: u64, bytes: &[u8]| (at, bytes.to_vec());
    let mbr = |kind: u8| {
        let mut block = vec![0; 512];
        block[446..462].copy_from_slice(&[0x80, 0, 2, 0, kind, 0, 0, 0, 0, 8, 0, 0, 0, 0, 4, 0]);
        block[510..].copy_from_slice(&[0x55, 0xaa]);
        (0, block)
    };
    match content {
        Content::Xfs => vec![text(0, b"XFSB\0\0\x10\0")],
        Content::Btrfs => vec![text(0x1_0040, b"_BHRfS_M")],
        Content::Lvm => vec![text(512, b"LABELONE"), text(512 + 24, b"LVM2 001")],
        Content::Luks => vec![text(0, b"LUKS\xba\xbe\0\x02")],
        Content::RaidAtEnd => {
            vec![text((end - 8192) / 4096 * 4096, b"\xfc\x4e\x2b\xa9\x01\0\0\0")]
        }
        Content::Zfs => vec![
            text(128 << 10, b"\x0c\xb1\xba\0\0\0\0\0"),
            text(end - (128 << 10), b"\x0c\xb1\xba\0\0\0\0\0"),
        ],
        Content::Swap => vec![text(1024, &[1]), text(4086, b"SWAPSPACE2")],
        Content::Mbr => vec![mbr(0x83)],
        Content::GptBackup => vec![text(end - sector, b"EFI PART\0\0\x01\0\x5c\0\0\0")],
        Content::BitLocker => vec![text(0, b"\xeb\x58\x90-FVE-FS-"), text(510, b"\x55\xaa")],
        Content::Iso => vec![mbr(0x17), text(0x8000, b"\x01CD001\x01")],
        // Multiples of a prime, which repeat only after 251 bytes.
        Content::Random => vec![(0, (0_u32..1 << 16).map(|at| (at * 7 % 251) as u8).collect())],
        Content::Blank
        | Content::Data
        | Content::NoAuto
        | Content::ReadOnly
        | Content::OtherType
        | Content::Ext4 => Vec::new(),
    }
}
