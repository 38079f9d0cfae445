//! The `NoCloud` disk: a small file system with the label `CIDATA`, on a disk or a partition.
//!
//! It is mounted read-only at a private place, read, and unmounted. Two such disks are a mistake, and
//! neither is used, because a guess could give a node another node's identity.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rustix::mount::{MountFlags, UnmountFlags};

use super::disk::block_devices;
use crate::console::kmsg;
use crate::machine::credential::Credentials;
use crate::machine::nocloud::{self, Disk};

/// The mount point.
const MOUNT_POINT: &str = "/run/kiln/nocloud";

/// The label, in upper case.
const LABEL: &[u8] = b"CIDATA";

/// The offset of ISO 9660's primary volume descriptor (ECMA-119, 8.4).
const ISO_AT: u64 = 32_768;

/// The size of what is read there, and of a boot sector, in bytes.
const BLOCK: usize = 512;

/// The file systems of a `NoCloud` disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// ISO 9660.
    Iso,
    /// FAT.
    Fat,
}

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
    let disk = read(device, *kind, credentials);
    kmsg::warn_on_error(disk).unwrap_or_default()
}

fn read(device: &Path, kind: Kind, credentials: &mut Credentials) -> Result<Disk> {
    fs::create_dir_all(MOUNT_POINT).with_context(|| format!("cannot make {MOUNT_POINT}"))?;
    let flags = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    let name = match kind {
        Kind::Iso => "iso9660",
        Kind::Fat => "vfat",
    };
    rustix::mount::mount(device, MOUNT_POINT, name, flags, None)
        .with_context(|| format!("cannot mount NoCloud disk {}", device.display()))?;
    let disk = nocloud::read(Path::new(MOUNT_POINT), credentials);
    let _ = rustix::mount::unmount(MOUNT_POINT, UnmountFlags::DETACH);
    kmsg::notice(format_args!("NoCloud disk {}", device.display()));
    Ok(disk)
}

/// Returns the disks and partitions with the label. A whole disk hides its partitions, because a
/// hybrid image describes one file system twice.
fn find() -> Vec<(PathBuf, Kind)> {
    let mut found: Vec<(PathBuf, Kind)> = Vec::new();
    let mut names = block_devices();
    names.sort_unstable();
    for name in names {
        let device = Path::new("/dev").join(&name);
        let parent = fs::canonicalize(Path::new("/sys/class/block").join(&name)).ok();
        let parent = parent.as_deref().and_then(Path::parent).and_then(Path::file_name);
        let is_known = |(disk, _): &(PathBuf, Kind)| disk.file_name() == parent;
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
fn kind_of(device: &Path) -> Option<Kind> {
    let open = File::open(device).ok()?;
    let (mut boot, mut volume) = ([0; BLOCK], [0; BLOCK]);
    open.read_exact_at(&mut boot, 0).ok()?;
    // A FAT can be smaller than the offset of the volume descriptor.
    let _ = open.read_exact_at(&mut volume, ISO_AT);
    kind(&boot, &volume)
}

/// Returns the file system with the right label.
#[must_use]
pub fn kind(boot: &[u8; BLOCK], volume: &[u8; BLOCK]) -> Option<Kind> {
    // ECMA-119, 8.4: type 1, `CD001`, version 1, and the volume's name at 40.
    if volume[..7] == *b"\x01CD001\x01" && is_label(&volume[40..72]) {
        return Some(Kind::Iso);
    }
    // Microsoft's FAT specification: the signature, and the label of FAT12/16 or of FAT32.
    let label = match (&boot[54..59], &boot[82..90]) {
        (b"FAT12" | b"FAT16", _) => &boot[43..54],
        (_, b"FAT32   ") => &boot[71..82],
        _ => return None,
    };
    (boot[510..] == [0x55, 0xaa] && is_label(label)).then_some(Kind::Fat)
}

fn is_label(field: &[u8]) -> bool {
    let padded = |byte: &u8| *byte == b' ' || *byte == 0;
    field.get(..LABEL.len()).is_some_and(|name| name.eq_ignore_ascii_case(LABEL))
        && field[LABEL.len()..].iter().all(padded)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{BLOCK, Kind, kind};

    fn iso(label: &[u8]) -> [u8; BLOCK] {
        let mut volume = [0; BLOCK];
        volume[..7].copy_from_slice(b"\x01CD001\x01");
        volume[40..72].fill(b' ');
        volume[40..40 + label.len()].copy_from_slice(label);
        volume
    }

    fn fat(kind: &[u8], kind_at: usize, label: &[u8], label_at: usize) -> [u8; BLOCK] {
        let mut boot = [0; BLOCK];
        boot[kind_at..kind_at + kind.len()].copy_from_slice(kind);
        boot[label_at..label_at + 11].fill(b' ');
        boot[label_at..label_at + label.len()].copy_from_slice(label);
        boot[510..].copy_from_slice(&[0x55, 0xaa]);
        boot
    }

    #[test]
    fn the_label_is_found_in_each_file_system_in_any_case() {
        let none = [0; BLOCK];
        for label in [&b"CIDATA"[..], b"cidata"] {
            assert_eq!(kind(&none, &iso(label)), Some(Kind::Iso));
            assert_eq!(kind(&fat(b"FAT12   ", 54, label, 43), &none), Some(Kind::Fat));
            assert_eq!(kind(&fat(b"FAT16   ", 54, label, 43), &none), Some(Kind::Fat));
            assert_eq!(kind(&fat(b"FAT32   ", 82, label, 71), &none), Some(Kind::Fat));
        }
        for label in [&b"CIDATA2"[..], b"XCIDATA", b"", b"ESP"] {
            assert_eq!(kind(&none, &iso(label)), None);
            assert_eq!(kind(&fat(b"FAT16   ", 54, label, 43), &none), None);
        }
        assert_eq!(kind(&none, &none), None);
    }

    proptest! {
        #[test]
        fn any_block_is_judged(seed: u8, at in 0..BLOCK, value: u8) {
            let mut block = iso(b"CIDATA");
            block[at] = value;
            let _ = kind(&[seed; BLOCK], &block);
            let _ = kind(&block, &[seed; BLOCK]);
        }
    }
}
