//! The file system on a block device, with its label and UUID, from its first blocks.
//!
//! Each format has one file with its magic number, the places of its fields, and their source. A
//! parser is pure: it gets the device as a function, reads a few known places of bounded size, and
//! trusts none of the bytes. A device on which two formats are found is ambiguous (an old file
//! system below a new one), and is treated as if it had none, as blkid(8) does.

mod disc;
mod fat;
mod linux;

use std::fmt::Write as _;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// A device: returns `length` bytes at an offset, or nothing if the device is shorter or cannot be
/// read.
pub type Read<'a> = dyn FnMut(u64, usize) -> Option<Vec<u8>> + 'a;

/// The use of a device's content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Usage {
    /// A file system or swap space, found by label and UUID.
    FileSystem,
    /// An encrypted volume, found by UUID only.
    Encrypted,
    /// A member of a larger volume: RAID, LVM. Its identity is the volume's, not the device's.
    Member,
}

/// The content of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    /// The format, by blkid's name.
    pub kind: &'static str,
    /// The use of the content.
    pub usage: Usage,
    /// The label without its padding, in UTF-8 if the format says so. Empty without a label.
    pub label: Vec<u8>,
    /// The UUID or serial number in the form that blkid prints. Empty without a UUID.
    pub uuid: String,
}

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

/// Returns the bytes before the first NUL, without spaces at the end.
fn text(bytes: &[u8]) -> Vec<u8> {
    let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
    bytes[..end].trim_ascii_end().to_vec()
}

/// Returns a UUID's text. 16 zero bytes are no UUID.
fn uuid(bytes: &[u8]) -> String {
    if bytes.iter().all(|&byte| byte == 0) {
        return String::new();
    }
    bytes.iter().enumerate().fold(String::new(), |mut text, (index, byte)| {
        let dash = if [4, 6, 8, 10].contains(&index) { "-" } else { "" };
        // Writing to a string cannot fail.
        let _ = write!(text, "{dash}{byte:02x}");
        text
    })
}

fn u16_le(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at + 2)?.try_into().ok().map(u16::from_le_bytes)
}

fn u32_le(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_le_bytes)
}

#[cfg(test)]
mod tests;
