//! `/var`: on the data partition where there is one, else in memory.
//!
//! The partition is found by its Discoverable Partitions type (UAPI group, DPS). A disk without
//! our type is never written, and of two such partitions none is taken: a guess could start a
//! node on another node's data. All that touches a disk happens in a thread with a deadline.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::mount::{MountFlags, UnmountFlags};

use crate::applet;
use crate::boot::mounts::{self, Tree};
use crate::console::kmsg;
use crate::kernel::cgroup::Groups;
use crate::modules::{self, Beside, Found, Index};
use crate::process::deadline;
use crate::storage::gpt;
use crate::storage::gpt::GptError;

/// Where the thread mounts the partition; moved to `/var` only when the thread ended in time, so
/// that a disk which answers too late cannot cover a `/var` that is in use.
const PRIVATE: &str = "/run/kiln/data";

/// The partition's random identity, copied to where reading it cannot hang.
pub const SEED_COPY: &str = "/run/kiln/seed";

/// The partition's random identity, below the partition's root.
const SEED: &str = "lib/kiln/seed";

/// How long finding and mounting may take: replaying ext4's journal on a slow disk included.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// How long drivers may take of that: one that hangs does not cost a disk that answers.
const DRIVERS: Duration = Duration::from_secs(15);

/// How long a controller may take to show its disks, where the kernel does not wait itself.
const SETTLE: Duration = Duration::from_secs(2);

/// Between two looks at `/sys/class/block`.
const LOOK: Duration = Duration::from_millis(10);

/// Where `/var` is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Var {
    /// In memory: empty at each boot.
    Memory,
    /// On the data partition.
    Partition,
}

/// A search for the data partition that a thread makes meanwhile.
#[derive(Debug)]
pub struct Search {
    /// Told when the archive's modules are loaded.
    modules: Receiver<()>,
    /// The partition, if it is mounted at [`PRIVATE`].
    mounted: Receiver<Option<PathBuf>>,
}

/// Begins to look for the data partition, once the archive's modules are loaded.
///
/// Drivers lie in the root, the partition is mounted below `/run`, and a helper that loads drivers
/// needs its control group.
pub fn search(_: &Tree, _: &Groups, beside: Beside) -> Result<Search> {
    let (loaded, modules) = mpsc::sync_channel(1);
    let look = move || {
        beside.join();
        let _ = loaded.send(());
        find_and_mount().unwrap_or_else(|error| {
            kmsg::warn(format_args!("data partition: {error:#}; /var is in memory"));
            None
        })
    };
    // Nobody waits for it any more.
    let undo = |mounted: Option<PathBuf>| {
        let _ = mounted.map(|_| rustix::mount::unmount(PRIVATE, UnmountFlags::DETACH));
    };
    Ok(Search { modules, mounted: deadline::begin("data", look, undo)? })
}

impl Search {
    /// Waits until the archive's modules are loaded.
    pub fn wait_for_modules(&self) -> Result<()> {
        deadline::end(&self.modules, DEADLINE).context("a module of the archive does not load")
    }

    /// Mounts `/var` when the search is over.
    pub fn attach(self, size: &str) -> Result<Var> {
        match deadline::end(&self.mounted, DEADLINE) {
            Some(Some(device)) => {
                rustix::mount::mount_move(PRIVATE, "/var")
                    .context("move the data partition to /var")?;
                kmsg::notice(format_args!("/var is on {}", device.display()));
                return Ok(Var::Partition);
            }
            Some(None) => {}
            None => kmsg::warn("data partition: disks do not answer; /var is in memory"),
        }
        mounts::tmpfs("/var", "").attach("/var", &format!("mode=0755,size={size}"))?;
        Ok(Var::Memory)
    }
}

/// What there is to do before a data partition can be looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// No disk, and nothing that could bring one up.
    None,
    /// All disks are there or come by themselves.
    Look,
    /// Drivers first.
    Load,
}

/// From the machine's controllers, whether one of them is a SCSI host by now, whether a disk is
/// there, and whether a module drives one of the controllers, which takes longest to know.
fn way(
    controllers: &[String],
    scsi: bool,
    disk: bool,
    driver: impl FnOnce(&[String]) -> bool,
) -> Way {
    if controllers.is_empty() {
        Way::None
    } else if scsi || driver(controllers) {
        Way::Load
    } else if disk || controllers.iter().any(|alias| is_late(alias)) {
        Way::Look
    } else {
        Way::None
    }
}

/// `NVMe`: its driver scans on its own.
fn is_late(modalias: &str) -> bool {
    modalias.contains("bc01sc08")
}

fn has_scsi_host() -> bool {
    fs::read_dir("/sys/class/scsi_host").is_ok_and(|mut hosts| hosts.next().is_some())
}

/// Not one that the kernel makes up.
fn is_disk(name: &str) -> bool {
    !["ram", "loop"].iter().any(|made_up| name.starts_with(made_up))
}

/// Modaliases of hardware that can have disks.
fn controllers() -> Vec<String> {
    let read = |bus: &str| fs::read_dir(format!("/sys/bus/{bus}/devices")).into_iter().flatten();
    let devices = ["pci", "virtio"].into_iter().flat_map(read).flatten();
    let aliases =
        devices.filter_map(|entry| fs::read_to_string(entry.path().join("modalias")).ok());
    aliases.map(|alias| alias.trim().to_owned()).filter(|alias| has_disks(alias)).collect()
}

/// PCI base class 1 (mass storage), or virtio's block (2) and SCSI (8) devices.
fn has_disks(modalias: &str) -> bool {
    let pci = modalias.starts_with("pci:") && modalias.contains("bc01");
    let virtio = ["virtio:d00000002v", "virtio:d00000008v"];
    pci || virtio.iter().any(|prefix| modalias.starts_with(prefix))
}

/// In the thread: has drivers loaded, looks for the partition, mounts it, copies its identity.
fn find_and_mount() -> Result<Option<PathBuf>> {
    let disk = block_devices("").iter().any(|name| is_disk(name));
    match way(&controllers(), has_scsi_host(), disk, modules::may_have_driver) {
        Way::None => return Ok(None),
        Way::Look => {}
        Way::Load => drop(kmsg::warn_on_error(load_drivers_apart())),
    }
    let found = wait_for_partition()?;
    let [device] = &found[..] else {
        if found.is_empty() {
            return Ok(None);
        }
        bail!("{} partitions have its type, taking none", found.len());
    };
    fs::create_dir_all(PRIVATE).context("make its mount point")?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOATIME;
    rustix::mount::mount(device, PRIVATE, "ext4", flags, None)
        .with_context(|| format!("mount {}", device.display()))?;
    let _ = kmsg::warn_on_error(copy_seed());
    Ok(Some(device.clone()))
}

/// In a process of its own, since the index would stay in PID 1's heap.
fn load_drivers_apart() -> Result<()> {
    let (child, _) = applet::start(applet::DISKS, &[])?;
    match child.wait(DRIVERS) {
        Some(0) => Ok(()),
        Some(status) => bail!("drivers of disks: exit status {status}"),
        None => bail!("drivers of disks do not come up in {} s", DRIVERS.as_secs()),
    }
}

/// The applet that does it.
#[must_use]
pub fn run() -> i32 {
    kmsg::open();
    i32::from(kmsg::warn_on_error(load_drivers()).is_none())
}

fn load_drivers() -> Result<()> {
    let index = Index::of_running_kernel()?;
    for alias in controllers() {
        if let Found::Load(steps) = index.find(&alias) {
            for step in steps {
                let _ = kmsg::warn_on_error(modules::load_file(&step.file, ""));
            }
        }
    }
    // Disks behind SCSI controllers (virtio-scsi, AHCI) need it, and no alias asks for it in time.
    if let Found::Load(steps) = index.find("sd_mod")
        && has_scsi_host()
    {
        for step in steps {
            let _ = kmsg::warn_on_error(modules::load_file(&step.file, ""));
        }
    }
    Ok(())
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
    for entry in fs::read_dir(disk).with_context(|| format!("list {}", disk.display()))? {
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
    let file = Path::new(PRIVATE).join(SEED);
    if !file.exists() {
        let seed = random_seed()?;
        fs::create_dir_all(file.parent().context("seed's folder")?)
            .context("make seed's folder")?;
        // Renamed into place, so that a power cut leaves none or a whole one.
        let new = file.with_extension("new");
        fs::write(&new, seed).context("write the seed")?;
        File::open(&new).and_then(|file| file.sync_all()).context("sync the seed")?;
        fs::rename(&new, &file).context("rename the seed")?;
    }
    fs::copy(&file, SEED_COPY).context("copy the seed").map(drop)
}

/// A new random UUID, from the kernel.
pub fn random_seed() -> Result<String> {
    let file = "/proc/sys/kernel/random/uuid";
    fs::read_to_string(file).with_context(|| format!("read {file}"))
}

#[cfg(test)]
mod tests {
    use super::{DEADLINE, DRIVERS, SETTLE, Way, has_disks, way};

    #[test]
    fn a_driver_that_hangs_leaves_time_to_look_for_the_partition() {
        assert!(DRIVERS + 2 * SETTLE < DEADLINE);
    }

    const AHCI: &str = "pci:v00008086d00002922sv00001AF4sd00001100bc01sc06i01";
    const NVME: &str = "pci:v00001B36d00000010sv00001AF4sd00001100bc01sc08i02";

    #[test]
    fn only_a_machine_that_may_have_disks_is_searched_and_drivers_load_only_where_they_are() {
        let check = |controllers: &[&str], scsi, disk, driver, expected| {
            let controllers: Vec<String> = controllers.iter().map(|name| (*name).into()).collect();
            assert_eq!(way(&controllers, scsi, disk, |_| driver), expected, "{controllers:?}");
        };
        check(&[], false, false, true, Way::None);
        check(&[], true, true, true, Way::None);
        check(&[NVME], false, false, false, Way::Look);
        check(&[NVME], false, true, true, Way::Load);
        check(&[AHCI], false, false, false, Way::None);
        check(&[AHCI], false, true, false, Way::Look);
        check(&[AHCI], true, false, false, Way::Load);
        check(&[AHCI], false, false, true, Way::Load);
        check(&[AHCI, NVME], false, false, false, Way::Look);
    }

    #[test]
    fn only_hardware_that_can_have_disks_is_waited_for() {
        for alias in [AHCI, NVME, "virtio:d00000002v00001AF4", "virtio:d00000008v00001AF4"] {
            assert!(has_disks(alias), "{alias}");
        }
        for alias in [
            "pci:v00001AF4d00001041sv00001AF4sd00001100bc02sc00i00",
            "virtio:d00000001v00001AF4",
            "",
        ] {
            assert!(!has_disks(alias), "{alias}");
        }
    }
}
