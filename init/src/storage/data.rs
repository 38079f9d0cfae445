//! Finds the data partition by its Discoverable Partitions type (UAPI group, DPS), and mounts it.
//!
//! A disk without this type is never written. If two partitions match, neither is used, because a
//! guess could start a node on another node's data.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use kiln_base::replace::{self, Durability};
use rustix::mount::MountFlags;

use super::controllers::{Way, controllers, has_scsi_host, is_late, way};
use super::drivers;
use super::gpt::{self, GptError};
use crate::console::kmsg;
use crate::machine::identity::random_uuid;
use crate::modules::index::may_have_driver;
use crate::settings::data::DataPolicy;

/// The mount point used by the thread. The partition is moved to `/var` only if the thread ends in
/// time, so that a slow disk cannot cover a `/var` that is in use.
pub const MOUNT_POINT: &str = "/run/kiln/data";

/// A copy of the partition's random identity, on a file system that cannot hang.
pub const SEED_COPY: &str = "/run/kiln/seed";

/// The partition's random identity, relative to the partition's root.
const SEED: &str = "lib/kiln/seed";

/// The time that a controller gets to show its disks if loading its driver does not wait for them.
pub const SETTLE: Duration = Duration::from_secs(2);

/// The pause between two scans of `/sys/class/block`.
const LOOK: Duration = Duration::from_millis(10);

/// Has the drivers of disks loaded if that is necessary. Returns false if there can be no disk.
pub fn bring_up_disks() -> bool {
    let disk = block_devices("").iter().any(|name| is_disk(name));
    match way(&controllers(), has_scsi_host(), disk, may_have_driver) {
        Way::None => return false,
        Way::Look => {}
        Way::Load => drop(kmsg::warn_on_error(drivers::load_in_helper())),
    }
    true
}

/// Finds the partition, mounts it and copies its identity. Runs in a thread, after
/// [`bring_up_disks`].
pub fn find_and_mount(_: &DataPolicy) -> Result<Option<PathBuf>> {
    let found = wait_for_partition()?;
    let [device] = &found[..] else {
        if found.is_empty() {
            return Ok(None);
        }
        bail!("{} partitions have the type, using none", found.len());
    };
    fs::create_dir_all(MOUNT_POINT).with_context(|| format!("cannot make {MOUNT_POINT}"))?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOATIME;
    rustix::mount::mount(device, MOUNT_POINT, "ext4", flags, None)
        .with_context(|| format!("cannot mount {}", device.display()))?;
    let _ = kmsg::warn_on_error(copy_seed());
    Ok(Some(device.clone()))
}

/// True for a disk or partition other than the kernel's RAM disks and loop devices.
pub(super) fn is_disk(name: &str) -> bool {
    !["ram", "loop"].iter().any(|made_up| name.starts_with(made_up))
}

/// Scans until a partition is found, but waits only for controllers that show their disks later.
///
/// Loading a module waits until its devices are probed, except for `nvme`.
fn wait_for_partition() -> Result<Vec<PathBuf>> {
    let late = controllers().iter().any(|alias| is_late(alias));
    let begin = Instant::now();
    loop {
        let found = data_partitions()?;
        let settled = !late || !block_devices("nvme").is_empty() || begin.elapsed() >= SETTLE;
        if !found.is_empty() || settled {
            return Ok(found);
        }
        thread::sleep(LOOK);
    }
}

pub(super) fn block_devices(prefix: &str) -> Vec<String> {
    let entries = fs::read_dir("/sys/class/block").into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    names.filter(|name| name.starts_with(prefix)).collect()
}

/// Returns all partitions of the type on all disks.
fn data_partitions() -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for name in block_devices("") {
        let folder = Path::new("/sys/class/block").join(&name);
        if folder.join("partition").exists() || !is_disk(&name) {
            continue;
        }
        let size = fs::read_to_string(folder.join("queue/logical_block_size")).unwrap_or_default();
        let disk = Path::new("/dev").join(&name);
        // A drive without a medium and a path of a multipath disk are not readable, which
        // is fine.
        let table = read_table(&disk, size.trim().parse().unwrap_or(512));
        match table.unwrap_or(Err(GptError::NoSignature)) {
            Ok(numbers) => {
                for number in numbers {
                    found.extend(partition_device(&folder, number)?);
                }
            }
            Err(GptError::NoSignature) => {}
            Err(error) => kmsg::warn(format_args!("{}: {error}", disk.display())),
        }
    }
    Ok(found)
}

/// Returns the numbers of the partitions of the type on one disk. The outer error is a failure to
/// read the disk, the inner one an invalid table.
fn read_table(disk: &Path, block_size: u64) -> Result<Result<Vec<u32>, GptError>> {
    let mut disk = File::open(disk)?;
    let mut block = vec![0; usize::try_from(block_size)?];
    disk.seek(SeekFrom::Start(block_size))?;
    disk.read_exact(&mut block)?;
    let header = match gpt::header(&block) {
        Ok(header) => header,
        Err(error) => return Ok(Err(error)),
    };
    let mut entries = vec![0; header.bytes()];
    let start =
        header.first_block.checked_mul(block_size).context("the entries lie beyond the disk")?;
    disk.seek(SeekFrom::Start(start))?;
    disk.read_exact(&mut entries)?;
    Ok(gpt::partitions(&header, &entries, &gpt::VAR))
}

/// Returns the device of a partition by its number, because the names differ (`vda1`, `nvme0n1p1`).
fn partition_device(disk: &Path, number: u32) -> Result<Option<PathBuf>> {
    for entry in fs::read_dir(disk).with_context(|| format!("cannot list {}", disk.display()))? {
        let entry = entry?.path();
        let is = fs::read_to_string(entry.join("partition")).unwrap_or_default();
        if is.trim().parse() == Ok(number) {
            return Ok(entry.file_name().map(|name| Path::new("/dev").join(name)));
        }
    }
    Ok(None)
}

/// Copies the partition's identity, and makes it at the first use of the partition.
fn copy_seed() -> Result<()> {
    let file = Path::new(MOUNT_POINT).join(SEED);
    if !file.exists() {
        let seed = random_uuid()?;
        let folder = file.parent().context("the seed has no folder")?;
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        replace::write(&file, seed.as_bytes(), 0o644, Durability::File)
            .with_context(|| format!("cannot write {}", file.display()))?;
    }
    fs::copy(&file, SEED_COPY).context("cannot copy the seed").map(drop)
}
