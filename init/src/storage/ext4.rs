//! ext4 as the data partition needs it: the superblock's facts (the kernel's
//! Documentation/filesystems/ext4/super.rst), a new UUID, and growing while mounted.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// The superblock's offset and length.
const OFFSET: u64 = 1024;
const LENGTH: usize = 1024;

/// `s_magic`.
const MAGIC: u16 = 0xef53;

/// `EXT4_ERROR_FS` of `s_state`: the kernel found an error.
const ERROR: u16 = 2;

/// `EXT4_IOC_SETFSUUID` and `EXT4_IOC_RESIZE_FS` of include/uapi/linux/ext4.h.
const SET_UUID: u64 = 0x4008_662c;
const RESIZE: u64 = 0x4008_6610;

/// The facts of a superblock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Superblock {
    /// The size of a block in bytes.
    pub block: u64,
    /// The number of blocks.
    pub blocks: u64,
    /// The UUID.
    pub uuid: [u8; 16],
    /// True if the kernel has found an error.
    pub has_errors: bool,
}

/// Parses the superblock. Returns `None` if it is not ext4's.
#[must_use]
pub fn parse(bytes: &[u8]) -> Option<Superblock> {
    let short = |at: usize| Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?));
    let long = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    if short(0x38)? != MAGIC {
        return None;
    }
    // The size is 1024 shifted; 64 KiB is the largest.
    let block = 1024_u64 << long(0x18).filter(|&shift| shift <= 6)?;
    let blocks = u64::from(long(0x150)?) << 32 | u64::from(long(4)?);
    let uuid = bytes.get(0x68..0x78)?.try_into().ok()?;
    Some(Superblock { block, blocks, uuid, has_errors: short(0x3a)? & ERROR != 0 })
}

/// Reads the superblock of a partition.
pub fn read(device: &Path) -> io::Result<Option<Superblock>> {
    let mut bytes = [0; LENGTH];
    File::open(device)?.read_exact_at(&mut bytes, OFFSET)?;
    Ok(parse(&bytes))
}

/// `struct fsuuid`.
#[repr(C)]
struct FsUuid {
    length: u32,
    flags: u32,
    uuid: [u8; 16],
}

/// Gives a mounted file system a UUID.
pub fn set_uuid(mounted: impl AsFd, uuid: [u8; 16]) -> io::Result<()> {
    let request = FsUuid { length: 16, flags: 0, uuid };
    let fd = mounted.as_fd().as_raw_fd();
    // SAFETY: the request reads an fsuuid with the 16 bytes that its length announces.
    check(unsafe { libc::ioctl(fd, SET_UUID as _, &raw const request) })
}

/// Grows a mounted file system to a number of blocks. A power cut leaves a file system of a size in
/// between, see [`super::grow`] for the steps that leave nothing to mend.
pub fn resize(mounted: impl AsFd, blocks: u64) -> io::Result<()> {
    let fd = mounted.as_fd().as_raw_fd();
    // SAFETY: the request reads one number of 64 bits.
    check(unsafe { libc::ioctl(fd, RESIZE as _, &raw const blocks) })
}

fn check(result: i32) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{ERROR, LENGTH, MAGIC, Superblock, parse};

    fn superblock(state: u16) -> Vec<u8> {
        let mut bytes = vec![0; LENGTH];
        bytes[4..8].copy_from_slice(&7_u32.to_le_bytes());
        bytes[0x18..0x1c].copy_from_slice(&2_u32.to_le_bytes());
        bytes[0x38..0x3a].copy_from_slice(&MAGIC.to_le_bytes());
        bytes[0x3a..0x3c].copy_from_slice(&state.to_le_bytes());
        bytes[0x68..0x78].fill(9);
        bytes[0x150..0x154].copy_from_slice(&1_u32.to_le_bytes());
        bytes
    }

    #[test]
    fn the_superblock_tells_size_uuid_and_errors() {
        let facts = |has_errors| Superblock {
            block: 4096,
            blocks: (1 << 32) + 7,
            uuid: [9; 16],
            has_errors,
        };
        assert_eq!(parse(&superblock(1)), Some(facts(false)));
        assert_eq!(parse(&superblock(1 | ERROR)), Some(facts(true)));
        let mut other = superblock(1);
        other[0x38] = 0;
        assert_eq!(parse(&other), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_parsed_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..1024)) {
            let _ = parse(&bytes);
            let mut with_magic = bytes;
            if let Some(magic) = with_magic.get_mut(0x38..0x3a) {
                magic.copy_from_slice(&MAGIC.to_le_bytes());
            }
            let found = parse(&with_magic);
            prop_assert!(found.is_none_or(|found| (1024..=65536).contains(&found.block)));
        }
    }
}
