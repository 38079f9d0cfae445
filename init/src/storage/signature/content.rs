//! The result of a parser, and the fields that formats share.

use std::fmt::Write as _;

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

/// Returns the bytes before the first NUL, without spaces at the end.
pub(super) fn text(bytes: &[u8]) -> Vec<u8> {
    let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
    bytes[..end].trim_ascii_end().to_vec()
}

/// Returns the text of a UUID's 16 bytes, which is empty if they are zero.
#[must_use]
pub fn uuid(bytes: &[u8]) -> String {
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

pub(super) fn u16_le(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at + 2)?.try_into().ok().map(u16::from_le_bytes)
}

pub(super) fn u32_le(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_le_bytes)
}
