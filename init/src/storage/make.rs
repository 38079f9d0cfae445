//! Makes a data partition on a blank disk.
//!
//! A power cut must leave a disk that the next boot takes up again, or a good file system. So the
//! first write marks the disk as begun, the file system follows, and the table's header comes last:
//! until then there is no partition, and [`super::content`] recognises all that is there.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};

use anyhow::{Context, Result};
use kiln_contract::template::{self, Template};

use super::disk::Disk;
use super::gpt::write::{NewTable, Step};

/// `BLKZEROOUT` of include/uapi/linux/fs.h: zeros a range, by a command of the disk if it has one.
const ZERO_OUT: u64 = 0x127f;

/// `BLKRRPART`: has the kernel read the partition table again.
const READ_TABLE: u64 = 0x125f;

/// Returns all steps for a blank disk.
#[must_use]
pub fn steps<'a>(table: &NewTable, template: &Template<'a>) -> Vec<Step<'a>> {
    let start = table.start();
    let mut steps = table.mark();
    steps.push(Step::Zero(start, template.bytes));
    let extents = template.extents.iter();
    steps.extend(extents.map(|&(at, bytes)| Step::Write(start + at, bytes.into())));
    steps.push(Step::Sync);
    steps.extend(table.finish());
    steps
}

/// True if the disk has room for the table and the template.
#[must_use]
pub fn fits(table: &NewTable, template: &Template<'_>) -> bool {
    table.bytes() >= template.bytes
}

/// Applies the part of a step that falls into `buffer`, which begins at offset `at` of the disk.
pub fn apply(step: &Step<'_>, at: u64, buffer: &mut [u8]) {
    let end = at + buffer.len() as u64;
    let cut = |from: u64, length: u64| {
        let (from, to) = (from.clamp(at, end), from.saturating_add(length).clamp(at, end));
        // Both lie within the buffer.
        [from, to].map(|place| usize::try_from(place - at).unwrap_or_default())
    };
    match step {
        Step::Write(from, bytes) => {
            let [first, last] = cut(*from, bytes.len() as u64);
            if first < last {
                let skipped = usize::try_from(at.saturating_sub(*from)).unwrap_or_default();
                buffer[first..last].copy_from_slice(&bytes[skipped..][..last - first]);
            }
        }
        Step::Zero(from, length) => {
            let [first, last] = cut(*from, *length);
            buffer[first..last].fill(0);
        }
        Step::Sync => {}
    }
}

/// Returns the file with the template.
pub fn read_template() -> Result<Vec<u8>> {
    std::fs::read(template::FILE).with_context(|| format!("cannot read {}", template::FILE))
}

/// Opens a disk for writing, and refuses one that is mounted or part of an array.
pub fn open_alone(disk: &Disk) -> Result<File> {
    let path = disk.device();
    let options = File::options().read(true).write(true).custom_flags(libc::O_EXCL).to_owned();
    options.open(&path).with_context(|| format!("cannot open {} alone", path.display()))
}

/// Executes steps on a disk.
pub fn run(file: &File, steps: &[Step<'_>]) -> Result<()> {
    for step in steps {
        match step {
            Step::Write(at, bytes) => file.write_all_at(bytes, *at).context("cannot write")?,
            Step::Zero(at, length) => zero(file, *at, *length).context("cannot write zeros")?,
            Step::Sync => file.sync_all().context("cannot flush")?,
        }
    }
    Ok(())
}

fn zero(file: &File, at: u64, length: u64) -> io::Result<()> {
    let range = [at, length];
    // SAFETY: the request reads two numbers of 64 bits.
    match unsafe { libc::ioctl(file.as_raw_fd(), ZERO_OUT as _, range.as_ptr()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Has the kernel find the partitions of a changed table.
pub fn read_again(file: &File) -> Result<()> {
    // SAFETY: the request has no argument.
    match unsafe { libc::ioctl(file.as_raw_fd(), READ_TABLE as _) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()).context("the kernel refuses the new partition table"),
    }
}

#[cfg(test)]
mod tests;
