//! The file system on a block device, with its label and UUID, from its first blocks.
//!
//! Each format has one file with its magic number, the places of its fields, and their source. A
//! parser is pure: it gets the device as a function, reads a few known places of bounded size, and
//! trusts none of the bytes. A device on which two formats are found is ambiguous (an old file
//! system below a new one), and is treated as if it had none, as blkid(8) does.

mod content;
mod disc;
mod fat;
mod linux;

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

pub use content::{Content, Read, Usage, uuid};

/// A parser of one format.
type Parser = fn(&mut Read<'_>) -> Option<Content>;

/// Every format. Members come first, because a volume's content can begin on its first member.
const PARSERS: [Parser; 12] = [
    linux::raid,
    linux::lvm,
    linux::bluestore,
    linux::luks,
    linux::swap,
    linux::ext,
    linux::xfs,
    linux::btrfs,
    linux::f2fs,
    linux::erofs,
    fat::fat,
    disc::iso9660,
];

/// Returns the content of a device. Returns `None` for an unknown, empty or ambiguous device.
#[must_use]
pub fn identify(read: &mut Read<'_>) -> Option<Content> {
    let mut found: Vec<Content> = PARSERS.iter().filter_map(|parse| parse(read)).collect();
    if let Some(member) = found.iter().position(|content| content.usage == Usage::Member) {
        return Some(found.swap_remove(member));
    }
    // A disc image leaves its first 32 KiB to others, so that it can also be a disk with an ESP.
    if found.len() > 1 {
        found.retain(|content| content.kind != disc::KIND);
    }
    let content = found.pop()?;
    found.is_empty().then_some(content)
}

/// Reads a device for [`identify`]. The caller needs a deadline, because a device can hang.
pub fn reader(device: &File) -> impl FnMut(u64, usize) -> Option<Vec<u8>> {
    |at, length| {
        let mut bytes = vec![0; length];
        let read: io::Result<()> = device.read_exact_at(&mut bytes, at);
        read.ok().map(|()| bytes)
    }
}

#[cfg(test)]
mod tests;
