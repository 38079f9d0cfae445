//! The `NoCloud` disk: a small file system with the label `CIDATA`, on a disk or a partition.
//!
//! It is mounted read-only at a private place, read, and unmounted. Two such disks are a mistake, and
//! neither is used, because a guess could give a node another node's identity.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rustix::mount::{MountFlags, UnmountFlags};

use super::disk::block_devices;
use super::signature::{self, Read};
use crate::console::kmsg;
use crate::machine::credential::Credentials;
use crate::machine::nocloud::{self, Disk};

/// The mount point.
const MOUNT_POINT: &str = "/run/kiln/nocloud";

/// The label. Its case does not matter.
const LABEL: &[u8] = b"CIDATA";

/// The file systems of a `NoCloud` disk, by the names of the kernel, which are those of [`signature`].
const KINDS: [&str; 2] = ["iso9660", "vfat"];

/// Finds the disk and adds its credentials to the others. Runs in a thread.
pub fn find_and_read(credentials: &mut Credentials) -> Disk {
    let found = find();
    let [(device, kind)] = &found[..] else {
        if !found.is_empty() {
            let names: Vec<_> =
                found.iter().map(|(device, _)| device.display().to_string()).collect();
            kmsg::warn(format_args!(
                "NoCloud disks {} all have the label CIDATA, using none; leave one",
                names.join(", ")
            ));
        }
        return Disk::default();
    };
    let disk = read(device, kind, credentials);
    kmsg::warn_on_error(disk).unwrap_or_default()
}

fn read(device: &Path, kind: &str, credentials: &mut Credentials) -> Result<Disk> {
    fs::create_dir_all(MOUNT_POINT).with_context(|| format!("cannot make {MOUNT_POINT}"))?;
    let flags = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    rustix::mount::mount(device, MOUNT_POINT, kind, flags, None)
        .with_context(|| format!("cannot mount NoCloud disk {}", device.display()))?;
    let disk = nocloud::read(Path::new(MOUNT_POINT), credentials);
    let _ = rustix::mount::unmount(MOUNT_POINT, UnmountFlags::DETACH);
    kmsg::notice(format_args!("NoCloud disk {}", device.display()));
    Ok(disk)
}

/// Returns the disks and partitions with the label. A whole disk hides its partitions, because a
/// hybrid image describes one file system twice.
fn find() -> Vec<(PathBuf, &'static str)> {
    let mut found: Vec<(PathBuf, &'static str)> = Vec::new();
    let mut names = block_devices();
    names.sort_unstable();
    for name in names {
        let device = Path::new("/dev").join(&name);
        let parent = fs::canonicalize(Path::new("/sys/class/block").join(&name)).ok();
        let parent = parent.as_deref().and_then(Path::parent).and_then(Path::file_name);
        let is_known = |(disk, _): &(PathBuf, &str)| disk.file_name() == parent;
        if let Some(kind) = kind_of(&device)
            && !found.iter().any(is_known)
        {
            found.push((device, kind));
        }
    }
    found
}

/// Returns the file system of a device if its label is the right one. A device that cannot be read,
/// such as a drive without a medium, has none.
fn kind_of(device: &Path) -> Option<&'static str> {
    let open = File::open(device).ok()?;
    kind(&mut signature::reader(&open))
}

/// Returns the file system with the right label.
fn kind(read: &mut Read<'_>) -> Option<&'static str> {
    let content = signature::identify(read)?;
    let named = content.label.eq_ignore_ascii_case(LABEL) && KINDS.contains(&content.kind);
    named.then_some(content.kind)
}

#[cfg(test)]
mod tests {
    use super::kind;

    /// Returns an ISO 9660 file system as far as its label.
    fn iso(label: &[u8]) -> Vec<u8> {
        let mut disc = vec![0; 34 * 1024 + 2048];
        disc[32_768..32_775].copy_from_slice(b"\x01CD001\x01");
        disc[32_808..32_840].fill(b' ');
        disc[32_808..32_808 + label.len()].copy_from_slice(label);
        disc
    }

    /// Returns swap space, which has a label too.
    fn swap(label: &[u8]) -> Vec<u8> {
        let mut space = vec![0; 64 * 1024];
        space[4086..4096].copy_from_slice(b"SWAPSPACE2");
        space[1024] = 1;
        space[1052..1052 + label.len()].copy_from_slice(label);
        space
    }

    fn check(device: &[u8], expected: Option<&str>) {
        let mut read = |at, length| {
            let at = usize::try_from(at).unwrap();
            device.get(at..at + length).map(<[u8]>::to_vec)
        };
        assert_eq!(kind(&mut read), expected);
    }

    #[test]
    fn a_file_system_counts_by_its_whole_label_in_any_case() {
        for label in [&b"CIDATA"[..], b"cidata"] {
            check(&iso(label), Some("iso9660"));
        }
        for label in [&b"CIDATA2"[..], b"XCIDATA", b"", b"ESP"] {
            check(&iso(label), None);
        }
        check(&swap(b"CIDATA"), None);
        check(&[], None);
    }
}
