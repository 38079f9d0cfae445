//! Fills `/var`: folders, links, and a copy of kubelet's configuration.
//!
//! A data partition was written by a stranger and can be full, damaged or read-only. None of that
//! stops the boot: an entry of the wrong type is set aside, a full partition is freed of what is
//! made again, and if a partition cannot be used after that, `/var` is in memory.

use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use kiln_base::replace::Durability;
use kiln_contract::path;
use rustix::fs::{StatVfs, fstatvfs};

use super::partition;
use crate::console::kmsg;
use crate::kernel::beneath::Folder;
use crate::kernel::mount;
use crate::kubelet::cluster::Cluster;
use crate::kubelet::state;
use crate::log::{file, pod_logs, stream};
use crate::process::deadline;
use crate::settings::data::DataPolicy;
use crate::storage::var::{self, Var};

/// The time limit for filling `/var`.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// The time for making room on a full partition, which leaves time to fill it.
const FREEING_TIME_MAX: Duration = Duration::from_secs(20);

/// The folders of `/var` that kubelet, containerd, CNI and the log thread expect.
const FOLDERS: [&str; 9] = [
    "cache",
    "lib/cni",
    "lib/containerd",
    "lib/kiln",
    "lib/kubelet/seccomp",
    "log/containers",
    "log/pods",
    "spool",
    "tmp",
];

/// The files of [`FOLDERS`] that are made again at each boot, in `/var`.
const CONFIG: &str = "lib/kubelet/config.yaml";
const SECCOMP: &str = "lib/kubelet/seccomp/kiln";

/// containerd's images and the containers' files, and the name under which they are removed.
///
/// No container of an earlier boot runs, and images are pulled again, so all of it can go.
const STORE: &str = "lib/containerd";
const STORE_REMOVED: &str = "lib/containerd.removed";

/// The space that a boot needs: containerd's database, folders of pods and snapshots, and logs. Half
/// of it is enough, so that a partition is not freed at each boot.
const ROOM: Room = Room { bytes: 16 << 20, entries: 512 };

/// Sizes of `/var` in memory.
#[derive(Debug, Clone, Copy)]
pub struct Sizes<'a> {
    /// The size of `/var`, as an option of tmpfs.
    pub var: &'a str,
    /// The size of the file system for pods' logs.
    pub pod_logs: &'a str,
}

/// Mounts an empty `/var` in memory.
pub fn mount_memory(size: &str) -> Result<()> {
    mount::tmpfs("/var", "").attach("/var", &format!("mode=0755,size={size}"))
}

/// Fills `/var`, and returns the place where it is now.
///
/// `cluster` is the one that credentials name; the second result is the one that the node belongs to.
/// A partition that the policy requires is tried again until it can be used; each time it is mounted
/// again, so that damage is mended and another disk can take its place.
pub fn fill(
    var: Var,
    policy: &DataPolicy,
    sizes: Sizes,
    cluster: Option<Cluster>,
) -> Result<(Var, Option<Cluster>)> {
    if var == Var::Partition {
        loop {
            let error = match fill_in_thread(cluster.clone()) {
                Ok(cluster) => return Ok((Var::Partition, cluster)),
                Err(error) => format!("the data partition is not used: {error:#}"),
            };
            partition::leave()?;
            if !policy.required {
                kmsg::error(format_args!("{error}; /var is in memory"));
                break;
            }
            partition::put(&partition::insist(policy, error, partition::UNUSABLE_RETRY)?)?;
        }
        mount_memory(sizes.var)?;
    }
    let var = var::open().context("cannot open /var")?;
    fill_folder(&var, Path::new(path::KUBELET_BASE_CONFIG))?;
    let options = format!("mode=0755,size={}", sizes.pod_logs);
    mount::tmpfs(pod_logs::FOLDER, "").attach(pod_logs::FOLDER, &options)?;
    Ok((Var::Memory, cluster))
}

/// Fills the partition in a thread, because its disk can hang.
fn fill_in_thread(cluster: Option<Cluster>) -> Result<Option<Cluster>> {
    let fill = || {
        let var = var::open().context("cannot open it")?;
        make_room(&var)?;
        fill_folder(&var, Path::new(path::KUBELET_BASE_CONFIG))?;
        Ok(state::settle(&var, cluster))
    };
    let work = deadline::begin("var", fill, drop)?;
    deadline::end(&work, DEADLINE).context("the disk does not answer")?
}

/// Makes all entries; `base` is kubelet's configuration in the image. Only a missing folder, or a
/// file system that cannot be written, is an error.
fn fill_folder(var: &Folder, base: &Path) -> Result<()> {
    for folder in FOLDERS {
        var.make(folder)
            .with_context(|| format!("cannot make {}", var.path_of(folder).display()))?;
    }
    var.try_write().context("cannot write a file")?;
    let config = || var.replace(CONFIG, &fs::read(base)?, 0o600, Durability::None);
    for (name, done) in [
        ("tmp", var.folder("tmp").and_then(|tmp| tmp.set_mode(0o1777))),
        ("run", var.link("run", "/run")),
        (SECCOMP, var.link(SECCOMP, path::SECCOMP)),
        // kubelet itself reads the file of the image. This copy is for people and tools.
        (CONFIG, config()),
    ] {
        let path = || format!("cannot make {}", var.path_of(name).display());
        let _ = kmsg::warn_on_error(done.with_context(path));
    }
    Ok(())
}

/// The blocks that the kernel keeps for ext4's own metadata: a fiftieth, at most 4096
/// (`ext4_calculate_resv_clusters` in its `fs/ext4/super.c`). They count as free, but not even root can
/// use them.
const KEPT_SHARE: u64 = 50;
const KEPT_BLOCKS_MAX: u64 = 4096;

/// Free space on a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Room {
    bytes: u64,
    /// Inodes: files, folders and links.
    entries: u64,
}

impl Room {
    /// Returns the space for root, which may use reserved blocks.
    fn of(space: &StatVfs) -> Self {
        // A file system without a fixed number of inodes has none to count.
        let entries = if space.f_files == 0 { u64::MAX } else { space.f_ffree };
        let kept = (space.f_blocks / KEPT_SHARE).min(KEPT_BLOCKS_MAX);
        let blocks = space.f_bfree.saturating_sub(kept);
        Self { bytes: blocks.saturating_mul(space.f_frsize), entries }
    }

    const fn covers(self, needed: Self) -> bool {
        self.bytes >= needed.bytes && self.entries >= needed.entries
    }

    const fn half(self) -> Self {
        Self { bytes: self.bytes / 2, entries: self.entries / 2 }
    }
}

/// Frees space on a full partition: the node's own older logs first, then all that containerd makes
/// again. Files of users are never removed.
fn make_room(var: &Folder) -> Result<()> {
    let room = || fstatvfs(var).map(|space| Room::of(&space)).context("cannot read the free space");
    // An earlier boot may have been cut off.
    let begin = Instant::now();
    let in_time = || begin.elapsed() < FREEING_TIME_MAX;
    let removed = var.remove_while(STORE_REMOVED, in_time).unwrap_or(false);
    let before = room()?;
    if before.covers(ROOM.half()) {
        return Ok(());
    }
    let Room { bytes, entries } = before;
    kmsg::warn(format_args!(
        "the data partition is full: {bytes} bytes and {entries} inodes are free"
    ));
    for name in stream::STREAMS {
        let _ = var.remove(Path::new("log").join(file::previous(name)));
    }
    if removed && !room()?.covers(ROOM) {
        kmsg::warn("removing containers' files and images, which are made and pulled again");
        let removed = remove_store(var, in_time).context("cannot remove containers' files");
        let _ = kmsg::warn_on_error(removed);
    }
    let Room { bytes, entries } = room()?;
    ensure!(room()?.covers(ROOM.half()), "it is full: {bytes} bytes and {entries} inodes are free");
    Ok(())
}

/// Renames the store first, so that containerd never sees half of it.
fn remove_store(var: &Folder, in_time: impl Fn() -> bool) -> io::Result<()> {
    match var.metadata(STORE) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        found => drop(found?),
    }
    var.folder("lib")?.rename("containerd", "containerd.removed")?;
    var.remove_while(STORE_REMOVED, in_time).map(drop)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::path::PathBuf;

    use proptest::prelude::*;
    use rustix::fs::{CWD, FileType, Mode};

    use super::*;

    const BASE: &str = "kind: KubeletConfiguration\n";

    /// Returns a folder with a `var` and a file outside of it.
    fn planted() -> (tempfile::TempDir, PathBuf) {
        let root = tempfile::tempdir().unwrap();
        let var = root.path().join("var");
        fs::create_dir(&var).unwrap();
        fs::write(root.path().join("outside"), "a manifest").unwrap();
        fs::write(root.path().join("base"), BASE).unwrap();
        (root, var)
    }

    fn plant(root: &Path, kind: u8, path: &Path) {
        // An earlier entry can be in the way.
        let _ = fs::create_dir_all(path.parent().unwrap());
        let _ = match kind {
            0 => symlink(root.join("outside"), path),
            1 => symlink(root, path),
            2 => fs::write(path, "a file"),
            3 => fs::create_dir(path).and_then(|()| fs::write(path.join("data"), "a user's")),
            4 => fs::hard_link(root.join("outside"), path),
            _ => rustix::fs::mknodat(CWD, path, FileType::Fifo, Mode::RUSR, 0).map_err(Into::into),
        };
    }

    fn check_filled(root: &Path, var: &Path) {
        for folder in FOLDERS {
            assert!(fs::symlink_metadata(var.join(folder)).unwrap().is_dir(), "{folder}");
        }
        assert_eq!(fs::metadata(var.join("tmp")).unwrap().permissions().mode() & 0o7777, 0o1777);
        assert_eq!(fs::read_link(var.join("run")).unwrap(), Path::new("/run"));
        assert_eq!(fs::read_link(var.join(SECCOMP)).unwrap(), Path::new(path::SECCOMP));
        let config = fs::symlink_metadata(var.join(CONFIG)).unwrap();
        // The mode that the CIS benchmark checks.
        assert!(config.is_file() && config.permissions().mode() & 0o777 == 0o600);
        assert_eq!(fs::read_to_string(var.join(CONFIG)).unwrap(), BASE);
        assert_eq!(fs::read_to_string(root.join("outside")).unwrap(), "a manifest");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn a_strange_partition_is_filled_without_writing_outside(
            planting in prop::collection::vec((0_u8..6, 0_usize..14), 0..8),
        ) {
            let (root, var) = planted();
            let more = ["lib", "log", "run", SECCOMP, CONFIG];
            let names: Vec<&str> = FOLDERS.into_iter().chain(more).collect();
            for (kind, name) in planting {
                // An earlier entry is kept, and a link is not followed out of the partition.
                let path = var.join(names[name]);
                let parent = fs::canonicalize(path.parent().unwrap());
                if parent.is_ok_and(|real| real != root.path()) && !path.is_symlink() && !path.exists() {
                    plant(root.path(), kind, &path);
                }
            }
            let folder = Folder::open(&var).unwrap();
            for _ in 0..2 {
                fill_folder(&folder, &root.path().join("base")).unwrap();
                check_filled(root.path(), &var);
            }
        }
    }

    #[test]
    fn a_users_folder_in_the_place_of_a_file_is_kept() {
        let (root, var) = planted();
        plant(root.path(), 3, &var.join(CONFIG));
        plant(root.path(), 2, &var.join("log"));
        fill_folder(&Folder::open(&var).unwrap(), &root.path().join("base")).unwrap();
        check_filled(root.path(), &var);
        let kept = |path: &str| fs::read_to_string(var.join(path)).unwrap();
        assert_eq!(kept("lib/kubelet/config.yaml.set-aside/data"), "a user's");
        assert_eq!(kept("log.set-aside"), "a file");
    }

    #[test]
    fn a_copy_that_cannot_be_made_is_not_fatal() {
        let (root, var) = planted();
        fill_folder(&Folder::open(&var).unwrap(), &root.path().join("missing")).unwrap();
        assert!(var.join("lib/kubelet/seccomp/kiln").is_symlink());
    }

    #[test]
    fn containers_files_are_removed_whole_and_users_files_stay() {
        let (_root, var) = planted();
        let folder = Folder::open(&var).unwrap();
        remove_store(&folder, || true).unwrap();
        fs::create_dir_all(var.join("lib/containerd/snapshots/1")).unwrap();
        fs::write(var.join("lib/containerd/meta.db"), "x").unwrap();
        fs::write(var.join("lib/notes"), "x").unwrap();
        remove_store(&folder, || true).unwrap();
        assert_eq!(folder.folder("lib").unwrap().list(9).unwrap(), ["notes"]);
    }

    #[test]
    fn room_is_bytes_and_inodes_and_half_of_it_is_enough() {
        let room = |bytes, entries| Room { bytes, entries };
        assert!(ROOM.covers(ROOM) && ROOM.covers(ROOM.half()) && !ROOM.half().covers(ROOM));
        assert!(!room(0, u64::MAX).covers(ROOM.half()));
        assert!(!room(u64::MAX, 0).covers(ROOM.half()));
    }

    #[test]
    fn blocks_that_only_the_kernel_can_use_are_no_room() {
        let check = |f_blocks, f_bfree, bytes| {
            let space = StatVfs {
                f_bsize: 4096,
                f_frsize: 4096,
                f_blocks,
                f_bfree,
                f_bavail: 0,
                f_files: 100,
                f_ffree: 7,
                f_favail: 7,
                f_fsid: 0,
                f_flag: rustix::fs::StatVfsMountFlags::empty(),
                f_namemax: 255,
            };
            assert_eq!(Room::of(&space), Room { bytes, entries: 7 });
        };
        // A full file system of 640 MiB, and of 1 TiB.
        check(163_000, 3_260, 0);
        check(268_435_456, 4_096, 0);
        check(163_000, 3_270, 10 * 4096);
        check(163_000, 0, 0);
    }

    #[test]
    fn the_names_are_those_of_the_contract() {
        let absolute = |name: &str| format!("/var/{name}");
        assert_eq!(absolute(CONFIG), path::KUBELET_CONFIG);
        assert_eq!(absolute(SECCOMP), path::KUBELET_SECCOMP);
    }
}
