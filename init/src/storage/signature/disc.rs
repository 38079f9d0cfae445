//! ISO 9660 (ECMA-119, chapter 8), the format of discs and of their images.

use super::content::{Content, Read, Usage, text};

pub(super) const KIND: &str = "iso9660";

/// The size of a sector, and the first one with a volume descriptor.
const SECTOR: u64 = 2048;
const FIRST: u64 = 16;

/// The volume descriptors that are read. A disc has few, and a last one ends them.
const DESCRIPTORS_MAX: u64 = 8;

pub(super) fn iso9660(read: &mut Read<'_>) -> Option<Content> {
    for number in FIRST..FIRST + DESCRIPTORS_MAX {
        let descriptor = read(number * SECTOR, 2048)?;
        if descriptor.get(1..6)? != b"CD001" {
            return None;
        }
        match descriptor[0] {
            // The primary descriptor.
            1 => return Some(primary(&descriptor)),
            // The last descriptor.
            255 => return None,
            _ => {}
        }
    }
    None
}

/// The disc's identity is the time of its last change, else of its creation, as in blkid(8).
fn primary(descriptor: &[u8]) -> Content {
    let uuid = [830, 813].map(|at| date(&descriptor[at..at + 16]));
    let uuid = uuid.into_iter().find(|date| !date.is_empty()).unwrap_or_default();
    let label = text(&descriptor[40..72]);
    Content { kind: KIND, usage: Usage::FileSystem, label, uuid }
}

/// Formats `YYYYMMDDHHMMSSCC`. A time that is not set has zeros.
fn date(digits: &[u8]) -> String {
    let set = digits.iter().any(|&digit| digit != b'0');
    if !set || !digits.iter().all(u8::is_ascii_digit) {
        return String::new();
    }
    let part = |from: usize, to: usize| String::from_utf8_lossy(&digits[from..to]).into_owned();
    [(0, 4), (4, 6), (6, 8), (8, 10), (10, 12), (12, 14), (14, 16)]
        .map(|(from, to)| part(from, to))
        .join("-")
}
