//! The data partition while it is mounted at a private place: repair, identity, size, `/opt`.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use kiln_base::replace::Durability;
use kiln_contract::template;
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags};

use super::{check, disk, ext4, grow};
use crate::console::kmsg;
use crate::kernel::beneath::{Folder, is_strange};
use crate::machine::identity::random_uuid;

/// The mount point used by the thread. The partition is moved to `/var` only if the thread ends in
/// time, so that a slow disk cannot cover a `/var` that is in use.
pub const MOUNT_POINT: &str = "/run/kiln/data";

/// The mount point of the partition's folder for `/opt`, until it is moved there.
pub const OPT_MOUNT_POINT: &str = "/run/kiln/opt";

/// A copy of the partition's random identity, on a file system that cannot hang.
pub const SEED_COPY: &str = "/run/kiln/seed";

/// The partition's random identity, relative to the partition's root.
const SEED: &str = "lib/kiln/seed";

/// The longest seed: a UUID and a newline.
const SEED_BYTES_MAX: u64 = 64;

/// The folder that becomes `/opt`, relative to the partition's root. CNI plugins that pods install
/// must outlive a reboot, because the pods that need them are started in parallel to their
/// installer.
const OPT: &str = "lib/kiln/opt";

/// The errors of a mount that a check can mend: damaged metadata, a wrong checksum, values out of
/// range, an error while the journal was replayed.
const MENDABLE: [Errno; 4] = [Errno::UCLEAN, Errno::BADMSG, Errno::INVAL, Errno::IO];

/// A mounted data partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mounted {
    /// Its device.
    pub device: PathBuf,
    /// True if its file system is to be grown in the background.
    pub grows: bool,
    /// True if its folder for `/opt` is mounted at [`OPT_MOUNT_POINT`].
    pub opt: bool,
}

/// Tells that the boot has to wait longer: the work, and its time limit.
pub type Announce<'a> = dyn Fn(&str, Duration) + 'a;

/// Mounts a partition, after it was mended if that is necessary. `grows` is true for a file system
/// that should fill its partition.
pub fn mount(name: &str, grows: bool, announce: &Announce<'_>) -> Result<Mounted> {
    let device = Path::new("/dev").join(name);
    fs::create_dir_all(MOUNT_POINT).with_context(|| format!("cannot make {MOUNT_POINT}"))?;
    mount_good(&device, announce)?;
    let mounted = settle(&device, name, grows);
    if mounted.is_err() {
        let _ = rustix::mount::unmount(MOUNT_POINT, UnmountFlags::DETACH);
    }
    mounted
}

/// Mounts, and checks the file system at most once.
///
/// The kernel keeps some errors in the journal, so the superblock is read again after mounting.
fn mount_good(device: &Path, announce: &Announce<'_>) -> Result<()> {
    let name = device.display();
    let state = ext4::read(device).with_context(|| format!("cannot read {name}"))?;
    let Some(state) = state else {
        let next = "delete the partition to have a new one made, or restore the file system";
        bail!("{name} has no ext4 file system; {next}");
    };
    let mut why = state.has_errors.then(|| "its file system has errors".to_owned());
    if why.is_none() {
        match attach(device) {
            Ok(()) if has_errors(device) => {
                rustix::mount::unmount(MOUNT_POINT, UnmountFlags::empty())
                    .with_context(|| format!("cannot unmount {name} for a check"))?;
                why = Some("its journal reports errors".to_owned());
            }
            Ok(()) => return Ok(()),
            Err(error) if MENDABLE.contains(&error) => why = Some(format!("mounting it: {error}")),
            Err(error) => return Err(error).with_context(|| format!("cannot mount {name}")),
        }
    }
    announce(&format!("{name} is checked: {}", why.unwrap_or_default()), check::DEADLINE);
    check::run(device).with_context(|| {
        format!("{name} is damaged; see /run/kiln/e2fsck.log, repair or delete the partition")
    })?;
    kmsg::notice(format_args!("{name} was mended"));
    attach(device).with_context(|| format!("cannot mount {name} after its check"))
}

fn has_errors(device: &Path) -> bool {
    ext4::read(device).ok().flatten().is_some_and(|state| state.has_errors)
}

/// Mounts at [`MOUNT_POINT`]. An error makes the file system read-only, so that it damages no more.
fn attach(device: &Path) -> rustix::io::Result<()> {
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOATIME;
    rustix::mount::mount(device, MOUNT_POINT, "ext4", flags, c"errors=remount-ro")
}

/// Prepares everything that needs the mounted partition. Only its first bytes are essential.
fn settle(device: &Path, name: &str, grows: bool) -> Result<Mounted> {
    let root = Folder::open(Path::new(MOUNT_POINT))
        .with_context(|| format!("cannot open {MOUNT_POINT}"))?;
    let state = ext4::read(device)?.context("the file system has vanished")?;
    if state.uuid == template::UUID {
        let new = uuid_bytes(&random_uuid()?).context("the kernel's UUID is malformed")?;
        let _ = kmsg::warn_on_error(
            ext4::set_uuid(&root, new).with_context(|| format!("cannot set the UUID of {name}")),
        );
    }
    let size = disk::bytes(name).unwrap_or_default();
    let grows = grows
        && kmsg::warn_on_error(grow::first(Path::new(MOUNT_POINT), device, size)).unwrap_or(false);
    let _ = kmsg::warn_on_error(copy_seed_to(&root, Path::new(SEED_COPY)));
    let opt = kmsg::warn_on_error(bind_opt(&root)).is_some();
    Ok(Mounted { device: device.to_owned(), grows, opt })
}

/// Copies the partition's identity, and makes it at the first use of the partition.
///
/// After an error of the disk none is made, because a new one would change the node's name.
fn copy_seed_to(root: &Folder, copy: &Path) -> Result<()> {
    let context = || format!("cannot read {}", root.path_of(SEED).display());
    let seed = match root.read(SEED, SEED_BYTES_MAX) {
        Ok(seed) if is_seed(&seed) => seed,
        Ok(_) => make_seed(root)?,
        Err(error) if is_replaced(&error) => make_seed(root)?,
        Err(error) => return Err(error).with_context(context),
    };
    fs::write(copy, seed).context("cannot copy the seed")
}

fn is_seed(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_ok_and(|text| uuid_bytes(text).is_some())
}

/// True if no seed is there: nothing, or something else in its place.
fn is_replaced(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::FileTooLarge) || is_strange(error)
}

fn make_seed(root: &Folder) -> Result<Vec<u8>> {
    let seed = random_uuid()?.into_bytes();
    let context = || format!("cannot write {}", root.path_of(SEED).display());
    root.make("lib/kiln").with_context(context)?;
    root.replace(SEED, &seed, 0o644, Durability::FileAndFolder).with_context(context)?;
    Ok(seed)
}

/// Mounts the partition's folder for `/opt` at a private place.
fn bind_opt(root: &Folder) -> Result<()> {
    let opt = root.make(OPT).context("cannot make the folder for /opt")?;
    opt.make("cni/bin").context("cannot make the folder for CNI plugins")?;
    fs::create_dir_all(OPT_MOUNT_POINT)
        .with_context(|| format!("cannot make {OPT_MOUNT_POINT}"))?;
    let source = format!("/proc/self/fd/{}", opt.as_fd().as_raw_fd());
    rustix::mount::mount_bind(source, OPT_MOUNT_POINT).context("cannot mount the folder for /opt")
}

/// Unmounts what was mounted too late.
pub fn undo(mounted: &Mounted) {
    if mounted.opt {
        let _ = rustix::mount::unmount(OPT_MOUNT_POINT, UnmountFlags::DETACH);
    }
    let _ = rustix::mount::unmount(MOUNT_POINT, UnmountFlags::DETACH);
}

/// Parses a UUID's text.
pub(super) fn uuid_bytes(text: &str) -> Option<[u8; 16]> {
    let digits: String = text.trim().chars().filter(|&c| c != '-').collect();
    let number = u128::from_str_radix(&digits, 16).ok().filter(|_| digits.len() == 32)?;
    Some(number.to_be_bytes())
}

#[cfg(test)]
mod tests;
