//! Formats of Linux: file systems, swap space, encrypted volumes, members of volumes.

use super::content::{Content, Read, Usage, text, u16_le, u32_le, uuid};

fn content(kind: &'static str, label: &[u8], uuid: String) -> Content {
    Content { kind, usage: Usage::FileSystem, label: text(label), uuid }
}

fn member(kind: &'static str) -> Content {
    Content { kind, usage: Usage::Member, label: Vec::new(), uuid: String::new() }
}

/// ext2, ext3 and ext4 (Documentation/filesystems/ext4/super.rst). A journal device has the same
/// magic number and is not a file system.
pub(super) fn ext(read: &mut Read<'_>) -> Option<Content> {
    const JOURNAL: u32 = 0x4;
    const JOURNAL_DEVICE: u32 = 0x8;
    /// Incompatible features that came with ext4: extents, 64bit, `flex_bg` and later ones.
    const EXT4: u32 = 0x40 | 0x80 | 0x200 | 0x400 | 0x2000 | 0x4000 | 0x8000 | 0x1_0000;
    let block = read(1024, 256)?;
    let incompatible = u32_le(&block, 96)?;
    let sane = u32_le(&block, 24)? <= 6 && u32_le(&block, 0)? > 0;
    if u16_le(&block, 56)? != 0xEF53 || !sane || incompatible & JOURNAL_DEVICE != 0 {
        return None;
    }
    let kind = match (incompatible & EXT4, u32_le(&block, 92)? & JOURNAL) {
        (0, 0) => "ext2",
        (0, _) => "ext3",
        _ => "ext4",
    };
    Some(content(kind, block.get(120..136)?, uuid(block.get(104..120)?)))
}

/// XFS (`fs/xfs/libxfs/xfs_format.h`), big-endian.
pub(super) fn xfs(read: &mut Read<'_>) -> Option<Content> {
    let block = read(0, 512)?;
    let size = u32::from_be_bytes(block.get(4..8)?.try_into().ok()?);
    let sane = (512..=65536).contains(&size) && size.is_power_of_two();
    (block.starts_with(b"XFSB") && sane)
        .then(|| content("xfs", &block[108..120], uuid(&block[32..48])))
}

/// Btrfs (`include/uapi/linux/btrfs_tree.h`).
pub(super) fn btrfs(read: &mut Read<'_>) -> Option<Content> {
    let block = read(64 * 1024, 4096)?;
    let magic = block.get(64..72)? == b"_BHRfS_M";
    magic.then(|| content("btrfs", &block[299..555], uuid(&block[32..48])))
}

/// F2FS (`include/linux/f2fs_fs.h`). Its label is in UTF-16.
pub(super) fn f2fs(read: &mut Read<'_>) -> Option<Content> {
    const LABEL_UNITS_MAX: usize = 512;
    let block = read(1024, 124 + 2 * LABEL_UNITS_MAX)?;
    if u32_le(&block, 0)? != 0xF2F5_2010 {
        return None;
    }
    let units = block[124..].chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]]));
    let units: Vec<u16> = units.take_while(|&unit| unit != 0).collect();
    let label = String::from_utf16_lossy(&units);
    Some(content("f2fs", label.as_bytes(), uuid(&block[108..124])))
}

/// EROFS (`fs/erofs/erofs_fs.h`).
pub(super) fn erofs(read: &mut Read<'_>) -> Option<Content> {
    let block = read(1024, 128)?;
    let magic = u32_le(&block, 0)? == 0xE0F5_E1E2;
    magic.then(|| content("erofs", &block[64..80], uuid(&block[48..64])))
}

/// Swap space (include/linux/swap.h, `union swap_header`). The signature ends the first page, whose
/// size is the machine's that made it.
pub(super) fn swap(read: &mut Read<'_>) -> Option<Content> {
    const PAGES: [u64; 4] = [4096, 8192, 16384, 65536];
    let signature = |read: &mut Read<'_>, page| read(page - 10, 10);
    PAGES.iter().find(|&&page| signature(read, page).is_some_and(|end| end == b"SWAPSPACE2"))?;
    let header = read(1024, 44)?;
    (u32_le(&header, 0)? == 1).then(|| content("swap", &header[28..44], uuid(&header[12..28])))
}

/// LUKS, versions 1 and 2. The UUID is text. Version 1 has no label.
pub(super) fn luks(read: &mut Read<'_>) -> Option<Content> {
    let header = read(0, 208)?;
    if !header.starts_with(b"LUKS\xba\xbe") {
        return None;
    }
    let label = match header.get(6..8)? {
        [0, 1] => Vec::new(),
        [0, 2] => text(header.get(24..72)?),
        _ => return None,
    };
    let uuid = String::from_utf8(text(header.get(168..208)?)).ok()?;
    let valid = uuid.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
    let kind = "crypto_LUKS";
    valid.then_some(Content { kind, usage: Usage::Encrypted, label, uuid })
}

/// A physical volume of LVM2: its label is in one of the first four sectors.
pub(super) fn lvm(read: &mut Read<'_>) -> Option<Content> {
    let sectors = read(0, 4 * 512)?;
    let mut labels = sectors.chunks(512);
    let found = labels
        .any(|sector| sector.starts_with(b"LABELONE") && sector.get(24..32) == Some(b"LVM2 001"));
    found.then(|| member("LVM2_member"))
}

/// A member of a RAID of md whose superblock is at the beginning (versions 1.1 and 1.2).
/// Superblocks at the end (0.90, 1.0) are on members whose content looks like the array's.
pub(super) fn raid(read: &mut Read<'_>) -> Option<Content> {
    let at = |read: &mut Read<'_>, at| {
        read(at, 8).is_some_and(|head| {
            u32_le(&head, 0) == Some(0xA92B_4EFC) && u32_le(&head, 4) == Some(1)
        })
    };
    (at(read, 0) || at(read, 4096)).then(|| member("linux_raid_member"))
}

/// A device of Ceph's `BlueStore`.
pub(super) fn bluestore(read: &mut Read<'_>) -> Option<Content> {
    let head = read(0, 22)?;
    (head == b"bluestore block device").then(|| member("ceph_bluestore"))
}
