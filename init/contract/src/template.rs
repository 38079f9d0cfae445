//! The empty ext4 file system that PID 1 writes to a new data partition.
//!
//! The builder makes it with `mke2fs`, and PID 1 lets the kernel grow it. Nearly all of its bytes are
//! zero, so the file holds only the others: [`MAGIC`], the size of the file system, and extents. An
//! extent is an offset (8 bytes), a length (4 bytes) and the bytes. Numbers are little-endian.

/// The file in the root.
pub const FILE: &str = "/usr/share/kiln/ext4";

/// The beginning of the file. Its last byte is the version of the format.
pub const MAGIC: [u8; 8] = *b"KilnFS\x00\x01";

/// The size of the file system in bytes. mke2fs wants it to be at least twice the journal's size.
pub const BYTES: u64 = 256 << 20;

/// The size of the journal in MiB, which cannot grow with the file system. With 64 MiB a
/// transaction may change 16 MiB of metadata, and a small disk still has room for data.
pub const JOURNAL_MIB: u32 = 64;

/// The UUID of the template, a constant, so that equal inputs give equal images. PID 1 replaces it
/// in each new file system.
pub const UUID: [u8; 16] = [
    0x0c, 0x5b, 0x8e, 0x57, 0x1f, 0x6a, 0x4d, 0x0b, 0x9a, 0x53, 0x4e, 0x0e, 0x5c, 0x61, 0x7d, 0x90,
];

/// The size of a file system's block in bytes.
pub const BLOCK: usize = 4096;

/// The length of an extent's offset and length.
const EXTENT: usize = 12;

/// The smallest run of zeros that an extent leaves out. A smaller one costs less than an extent.
const PIECE: usize = 32;

/// A parsed template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template<'a> {
    /// The size of the file system in bytes.
    pub bytes: u64,
    /// Offsets in bytes and the bytes there, in ascending order. All other bytes are zero.
    pub extents: Vec<(u64, &'a [u8])>,
}

/// Returns the beginning of a file for a file system of this size.
#[must_use]
pub fn begin(bytes: u64) -> Vec<u8> {
    [MAGIC, bytes.to_le_bytes()].concat()
}

/// Appends the parts of a block that are not zero.
pub fn push(out: &mut Vec<u8>, at: u64, block: &[u8]) {
    let pieces: Vec<&[u8]> = block.chunks(PIECE).collect();
    let is_zero = |piece: &&[u8]| piece.iter().all(|&byte| byte == 0);
    let mut offset = 0;
    for run in pieces.chunk_by(|a, b| is_zero(a) == is_zero(b)) {
        let length = run.iter().map(|piece| piece.len()).sum::<usize>();
        if !is_zero(&run[0]) {
            out.extend((at + offset as u64).to_le_bytes());
            out.extend(u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes());
            out.extend(&block[offset..offset + length]);
        }
        offset += length;
    }
}

/// Parses a file. Returns `None` if it is malformed.
#[must_use]
pub fn parse(file: &[u8]) -> Option<Template<'_>> {
    let mut rest = file.strip_prefix(&MAGIC)?;
    let bytes = u64::from_le_bytes(take(&mut rest, 8)?.try_into().ok()?);
    let mut extents = Vec::new();
    let mut end = 0;
    while !rest.is_empty() {
        let head = take(&mut rest, EXTENT)?;
        let at = u64::from_le_bytes(head[..8].try_into().ok()?);
        let length = u32::from_le_bytes(head[8..].try_into().ok()?);
        let content = take(&mut rest, length as usize)?;
        if at < end || content.is_empty() {
            return None;
        }
        end = at.checked_add(u64::from(length)).filter(|&end| end <= bytes)?;
        extents.push((at, content));
    }
    Some(Template { bytes, extents })
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, left) = rest.split_at_checked(length)?;
    *rest = left;
    Some(taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_bytes_other_than_zero_are_kept() {
        let mut file = begin(3 * BLOCK as u64);
        let mut block = vec![0; BLOCK];
        push(&mut file, 0, &block);
        block[5] = 1;
        block[100] = 2;
        push(&mut file, BLOCK as u64, &block);
        let template = parse(&file).unwrap();
        let expected =
            vec![(BLOCK as u64, &block[..PIECE]), (BLOCK as u64 + 96, &block[96..96 + PIECE])];
        assert_eq!(template, Template { bytes: 3 * BLOCK as u64, extents: expected });
    }

    #[test]
    fn a_malformed_file_is_refused() {
        let mut file = begin(BLOCK as u64);
        push(&mut file, 0, &[7; 8]);
        assert!(parse(&file).is_some());
        for length in (0..file.len()).filter(|&length| length != 16) {
            assert_eq!(parse(&file[..length]), None, "{length}");
        }
        let beyond = |at: u64| {
            let mut file = begin(BLOCK as u64);
            push(&mut file, at, &[7; 8]);
            parse(&file).is_some()
        };
        assert!(beyond(BLOCK as u64 - 8) && !beyond(BLOCK as u64 - 7) && !beyond(u64::MAX));
        let mut twice = file.clone();
        push(&mut twice, 4, &[7; 8]);
        assert_eq!(parse(&twice), None);
    }
}
