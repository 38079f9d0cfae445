//! Grows a partition in its table and in the kernel.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

use anyhow::{Context, Result};

use super::disk::Disk;
use super::gpt::Partition;
use super::gpt::write;
use super::make;
use crate::console::kmsg;

/// `BLKPG` and `BLKPG_RESIZE_PARTITION` of include/uapi/linux/blkpg.h.
const BLKPG: u64 = 0x1269;
const RESIZE: i32 = 3;

/// `struct blkpg_partition`: offset and length in bytes, number, two names that are not used.
#[repr(C)]
struct Range {
    start: i64,
    length: i64,
    number: i32,
    names: [u8; 128],
}

/// `struct blkpg_ioctl_arg`.
#[repr(C)]
struct Argument<'a> {
    operation: i32,
    flags: i32,
    length: i32,
    range: &'a Range,
}

/// Grows a partition to the end of its disk, if the disk has grown since the table was written.
pub fn grow(disk: &Disk, partition: &Partition) -> Result<()> {
    let file = make::open_alone(disk)?;
    let (header, entries) = disk.read_table(&file)?;
    let Some(growth) = write::grow(disk.geometry, &header, &entries, partition) else {
        return Ok(());
    };
    make::run(&file, &growth.steps)?;
    let block = disk.geometry.block;
    let bytes = (growth.last + 1 - partition.first) * block;
    resize(&file, partition.number, partition.first * block, bytes)
        .context("the kernel refuses the new size")?;
    let name = disk.partition(partition.number);
    kmsg::notice(format_args!("the disk has grown: {name} has {} MiB now", bytes >> 20));
    Ok(())
}

fn resize(file: &File, number: u32, start: u64, length: u64) -> io::Result<()> {
    let range = Range {
        start: start.cast_signed(),
        length: length.cast_signed(),
        number: number.cast_signed(),
        names: [0; 128],
    };
    let length = i32::try_from(size_of::<Range>()).unwrap_or_default();
    let argument = Argument { operation: RESIZE, flags: 0, length, range: &range };
    // SAFETY: the request reads the argument and the partition that it points to.
    match unsafe { libc::ioctl(file.as_raw_fd(), BLKPG as _, &raw const argument) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use std::mem::offset_of;

    use super::{Argument, Range};

    #[test]
    fn structures_are_those_of_the_header() {
        assert_eq!((offset_of!(Range, number), size_of::<Range>()), (16, 152));
        assert_eq!((offset_of!(Argument<'_>, range), size_of::<Argument<'_>>()), (16, 24));
    }
}
