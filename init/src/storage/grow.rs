//! Grows the file system of the data partition to the size of the partition.
//!
//! The kernel does it while the file system is mounted. A first part is grown at once, so that the
//! node can start; a helper grows the rest in steps, because terabytes take a minute. A power cut
//! leaves a good file system of a size in between, and the next boot continues.

use std::fs::File;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};

use super::disk;
use super::ext4::{self, Superblock};
use crate::console::kmsg;
use crate::process::helper::Helper;

/// A step ends at a multiple of this size in bytes: 16 groups of blocks, which the kernel adds in one
/// transaction. It marks the last group of a step as such, so a power cut within a longer step would
/// leave a file system that works and that e2fsck still mends.
const STEP: u64 = 2 << 30;

/// The size in bytes up to which the file system is grown before the node starts.
const FIRST: u64 = 16 << 30;

/// The folder at which the helper finds the file system.
const VAR: &str = "/var";

/// Grows the file system at `folder` to [`FIRST`], by at least one step. Returns true if more steps
/// are necessary.
pub fn first(folder: &Path, device: &Path, partition: u64) -> Result<bool> {
    let folder = File::open(folder).context("cannot open the data partition")?;
    while let Some(bytes) = step(&folder, device, partition)? {
        if bytes >= FIRST {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Starts the helper that makes the other steps.
pub fn start(device: &Path) {
    let name = device.file_name().unwrap_or_default().to_string_lossy();
    let _ = kmsg::warn_on_error(Helper::GrowData.start(&[&name]));
}

/// Runs the helper.
#[must_use]
pub fn run(args: &[String]) -> i32 {
    kmsg::open();
    let name = args.first().map(String::as_str).unwrap_or_default();
    i32::from(kmsg::warn_on_error(grow_all(name)).is_none())
}

fn grow_all(name: &str) -> Result<()> {
    let folder = File::open(VAR).with_context(|| format!("cannot open {VAR}"))?;
    let device = Path::new("/dev").join(name);
    let size = disk::bytes(name).with_context(|| format!("{name} has no size"))?;
    let begin = Instant::now();
    while step(&folder, &device, size)?.is_some() {}
    let millis = begin.elapsed().as_millis();
    kmsg::notice(format_args!("{VAR} has grown to {} GiB in {millis} ms", size >> 30));
    Ok(())
}

/// Makes one step. Returns the new size in bytes if more are necessary.
fn step(folder: &File, device: &Path, partition: u64) -> Result<Option<u64>> {
    let before = state(device)?;
    let Some(blocks) = next(&before, partition) else { return Ok(None) };
    let context = || format!("cannot grow {} to {blocks} blocks", device.display());
    ext4::resize(folder, blocks).with_context(context)?;
    let after = state(device)?;
    // The kernel leaves out a last group that is too small.
    let more = after.blocks > before.blocks && next(&after, partition).is_some();
    Ok(more.then_some(after.blocks * after.block))
}

fn state(device: &Path) -> Result<Superblock> {
    let state = ext4::read(device).with_context(|| format!("cannot read {}", device.display()))?;
    state.with_context(|| format!("{} has no ext4 file system", device.display()))
}

/// Returns the next number of blocks, or `None` if the file system fills its partition.
fn next(state: &Superblock, partition: u64) -> Option<u64> {
    let (whole, step) = (partition / state.block, STEP / state.block);
    (state.blocks < whole).then(|| whole.min((state.blocks / step + 1) * step))
}

#[cfg(test)]
mod tests {
    use super::{STEP, Superblock, next};

    #[test]
    fn steps_end_at_whole_groups_and_at_the_partitions_size() {
        let check = |blocks, partition, expected| {
            let state = Superblock { block: 4096, blocks, uuid: [0; 16], has_errors: false };
            assert_eq!(next(&state, partition), expected, "{blocks} {partition}");
        };
        check(100, 100 * 4096, None);
        check(100, 100 * 4096 + 4095, None);
        check(100, 99 * 4096, None);
        check(100, 101 * 4096, Some(101));
        let step = STEP / 4096;
        check(100, 4 * STEP, Some(step));
        check(step - 1, 4 * STEP, Some(step));
        check(step, 4 * STEP, Some(2 * step));
        check(step + 1, 4 * STEP, Some(2 * step));
        check(3 * step, 4 * STEP - 4096, Some(4 * step - 1));
    }
}
