//! The data partition: found by its Discoverable Partitions type (UAPI group, DPS), and mounted.
//!
//! A disk without our type is never written, and of two such partitions none is taken: a guess could start a
//! node on another node's data.

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

/// Where the thread mounts the partition; moved to `/var` only when the thread ended in time, so
/// that a disk which answers too late cannot cover a `/var` that is in use.
pub const MOUNT_POINT: &str = "/run/kiln/data";

/// The partition's random identity, copied to where reading it cannot hang.
pub const SEED_COPY: &str = "/run/kiln/seed";

/// The partition's random identity, below the partition's root.
const SEED: &str = "lib/kiln/seed";

/// How long a controller may take to show its disks, where the kernel does not wait itself.
pub const SETTLE: Duration = Duration::from_secs(2);

/// Between two looks at `/sys/class/block`.
const LOOK: Duration = Duration::from_millis(10);

/// In the thread: has drivers loaded, looks for the partition, mounts it, copies its identity.
pub fn find_and_mount() -> Result<Option<PathBuf>> {
    let disk = block_devices("").iter().any(|name| is_disk(name));
    match way(&controllers(), has_scsi_host(), disk, may_have_driver) {
        Way::None => return Ok(None),
        Way::Look => {}
        Way::Load => drop(kmsg::warn_on_error(drivers::load_in_helper())),
    }
    let found = wait_for_partition()?;
    let [device] = &found[..] else {
        if found.is_empty() {
            return Ok(None);
        }
        bail!("{} partitions have its type, taking none", found.len());
    };
    fs::create_dir_all(MOUNT_POINT).context("cannot make its mount point")?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOATIME;
    rustix::mount::mount(device, MOUNT_POINT, "ext4", flags, None)
        .with_context(|| format!("cannot mount {}", device.display()))?;
    let _ = kmsg::warn_on_error(copy_seed());
    Ok(Some(device.clone()))
}

/// Not one that the kernel makes up.
fn is_disk(name: &str) -> bool {
    !["ram", "loop"].iter().any(|made_up| name.starts_with(made_up))
}

/// Looks until something is found, but waits only for controllers that answer later.
///
/// Loading a module waits for what it probes, with the exception of `nvme`, which scans on its own.
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

fn block_devices(prefix: &str) -> Vec<String> {
    let entries = fs::read_dir("/sys/class/block").into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    names.filter(|name| name.starts_with(prefix)).collect()
}

/// All partitions of our type on all disks.
fn data_partitions() -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for name in block_devices("") {
        let folder = Path::new("/sys/class/block").join(&name);
        if folder.join("partition").exists() || !is_disk(&name) {
            continue;
        }
        let size = fs::read_to_string(folder.join("queue/logical_block_size")).unwrap_or_default();
        let disk = Path::new("/dev").join(&name);
        // A drive without a medium, or a path of a multipath disk: not readable is nothing wrong.
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

/// Numbers of our partitions on one disk. The outer error is the disk's, the inner one its table's.
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
    let start = header.first_block.checked_mul(block_size).context("entries beyond the disk")?;
    disk.seek(SeekFrom::Start(start))?;
    disk.read_exact(&mut entries)?;
    Ok(gpt::partitions(&header, &entries, &gpt::VAR))
}

/// The device of a partition by its number: names differ (`vda1`, `nvme0n1p1`), numbers do not.
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

/// Makes the partition's identity at its first use, and copies it.
fn copy_seed() -> Result<()> {
    let file = Path::new(MOUNT_POINT).join(SEED);
    if !file.exists() {
        let seed = random_uuid()?;
        fs::create_dir_all(file.parent().context("seed's folder")?)
            .context("cannot make seed's folder")?;
        replace::write(&file, seed.as_bytes(), 0o644, Durability::File)
            .with_context(|| format!("cannot write {}", file.display()))?;
    }
    fs::copy(&file, SEED_COPY).context("cannot copy the seed").map(drop)
}
