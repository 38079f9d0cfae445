//! A disk's facts: from sysfs, which never waits for the disk, and from the disk itself, which can
//! hang.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use super::links::{Facts, Identity, Partition};
use super::{place, vpd};
use crate::storage::gpt;
use crate::storage::signature::{self, Content};

/// Block devices without links: their content belongs to another device, or is empty at each boot.
const LEFT_OUT: [&str; 4] = ["ram", "zram", "fd", "mtdblock"];

/// A block device in sysfs.
#[derive(Debug, Clone)]
pub(super) struct Block {
    /// The kernel's name.
    pub name: String,
    sysfs: PathBuf,
    /// The device's folder without links.
    folder: PathBuf,
    /// The whole disk's folder.
    disk: PathBuf,
    number: Option<u32>,
}

/// The content of a device and of its partition's entry in the table.
#[derive(Debug, Default)]
pub(super) struct OnDisk {
    content: Option<Content>,
    uuid: Option<String>,
}

impl Block {
    /// Returns a block device that has links.
    pub(super) fn find(sysfs: &Path, name: &str) -> Option<Self> {
        if name.contains('/') || LEFT_OUT.iter().any(|prefix| name.starts_with(prefix)) {
            return None;
        }
        let folder = sysfs.join("class/block").join(name).canonicalize().ok()?;
        let number = read(&folder.join("partition")).and_then(|number| number.parse().ok());
        let disk = match number {
            Some(_) => folder.parent()?.to_owned(),
            None => folder.clone(),
        };
        Some(Self { name: name.into(), sysfs: sysfs.into(), folder, disk, number })
    }

    /// Returns the facts in sysfs.
    pub(super) fn facts(&self, on_disk: OnDisk) -> Facts {
        let path = self.disk.strip_prefix(&self.sysfs).unwrap_or(&self.disk);
        let attribute = |path: &str| read(&self.sysfs.join(path.trim_start_matches('/')));
        Facts {
            identity: self.identity(),
            place: place::name(&format!("/{}", path.display()), &attribute),
            partition: self.number.map(|number| Partition {
                number,
                name: self.partition_name(),
                uuid: on_disk.uuid,
            }),
            content: on_disk.content,
        }
    }

    fn identity(&self) -> Identity {
        let of = |name: &str| read(&self.disk.join(name)).unwrap_or_default();
        let kernel = self.disk.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let is = |prefix: &str| kernel.starts_with(prefix);
        if is("vd") {
            Identity::Virtio(of("serial"))
        } else if is("nvme") {
            Identity::Nvme {
                model: of("device/model"),
                serial: of("device/serial"),
                number: of("nsid"),
                wwid: of("wwid"),
            }
        } else if is("sd") || is("sr") {
            let page =
                |name: &str| fs::read(self.disk.join("device").join(name)).unwrap_or_default();
            let inquiry = format!("{:<8}{:<16}", of("device/vendor"), of("device/model"));
            Identity::Scsi(vpd::names(&page("vpd_pg83"), &page("vpd_pg80"), &inquiry))
        } else if is("mmcblk") {
            Identity::Card { name: of("device/name"), serial: of("device/serial") }
        } else if is("dm-") {
            Identity::Mapped { name: of("dm/name"), uuid: of("dm/uuid") }
        } else {
            Identity::None
        }
    }

    fn partition_name(&self) -> String {
        let uevent = read(&self.folder.join("uevent")).unwrap_or_default();
        let name = uevent.lines().find_map(|line| line.strip_prefix("PARTNAME="));
        name.unwrap_or_default().to_owned()
    }

    /// Reads the device and its disk's partition table. Can hang.
    pub(super) fn read(&self, dev: &Path) -> OnDisk {
        let uuid = self.number.and_then(|number| self.partition_uuid(dev, number));
        OnDisk { content: self.read_content(dev), uuid }
    }

    fn read_content(&self, dev: &Path) -> Option<Content> {
        let empty = read(&self.folder.join("size"))? == "0";
        // A device below another one: RAID, LVM, multipath, an opened encrypted volume.
        let held =
            fs::read_dir(self.folder.join("holders")).is_ok_and(|mut all| all.next().is_some());
        if empty {
            return None;
        }
        let device = File::open(dev.join(&self.name)).ok()?;
        let content = signature::identify(&mut signature::reader(&device))?;
        let below = held && content.usage == signature::Usage::FileSystem;
        // The table's blocks can look like a FAT's.
        let table = self.number.is_none() && self.has_partitions() && content.kind != "iso9660";
        (!below && !table).then_some(content)
    }

    fn has_partitions(&self) -> bool {
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        entries.into_iter().any(|entry| entry.path().join("partition").exists())
    }

    /// Returns the UUID in the entry of a GPT, or the one that the kernel makes of an MBR's.
    fn partition_uuid(&self, dev: &Path, number: u32) -> Option<String> {
        let size = read(&self.disk.join("queue/logical_block_size"))?.parse().ok()?;
        let device = File::open(dev.join(self.disk.file_name()?)).ok()?;
        let mut read = signature::reader(&device);
        partition_uuid(&mut read, size, number)
    }
}

fn partition_uuid(read: &mut signature::Read<'_>, block: u64, number: u32) -> Option<String> {
    let length = usize::try_from(block).ok().filter(|size| (512..=65536).contains(size))?;
    if let Ok(header) =
        read(block, length).map_or(Err(gpt::GptError::NoSignature), |head| gpt::header(&head))
    {
        let index = number.checked_sub(1).filter(|index| *index < header.count)?;
        let start = header.first_block.checked_mul(block)?;
        let entry = read(start.checked_add(u64::from(index) * u64::from(header.size))?, 128)?;
        return Some(guid(entry.get(16..32)?.try_into().ok()?));
    }
    let boot = read(0, 512)?;
    let disk = u32::from_le_bytes(boot.get(440..444)?.try_into().ok()?);
    (boot.get(510..512)? == [0x55, 0xAA] && disk != 0).then(|| format!("{disk:08x}-{number:02x}"))
}

/// Formats a GUID, whose first three fields are little-endian.
fn guid(mut bytes: [u8; 16]) -> String {
    bytes[..4].reverse();
    bytes[4..6].reverse();
    bytes[6..8].reverse();
    signature::uuid(&bytes)
}

/// Reads an attribute without white space at its end.
fn read(path: &Path) -> Option<String> {
    let bytes = fs::read(path).ok()?;
    Some(String::from_utf8_lossy(&bytes).trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::Path;

    use kiln_base::crc::crc32;

    use super::{Block, OnDisk, partition_uuid};
    use crate::devices::disk::links::links;

    fn write(folder: &Path, files: &[(&str, &str)]) {
        for (name, text) in files {
            let file = folder.join(name);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        }
    }

    /// The files of a virtio disk with one partition.
    fn machine() -> (tempfile::TempDir, tempfile::TempDir) {
        let (sysfs, dev) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let disk = "devices/pci0000:00/0000:00:04.0/virtio1/block/vda";
        let folder = sysfs.path().join(disk);
        let uevent = "DEVNAME=vda1\nPARTN=1\nPARTNAME=kiln data\n";
        write(
            &folder,
            &[
                ("serial", "data-1"),
                ("size", "2048\n"),
                ("queue/logical_block_size", "512\n"),
                ("vda1/partition", "1\n"),
                ("vda1/size", "1024\n"),
                ("vda1/uevent", uevent),
            ],
        );
        fs::create_dir_all(sysfs.path().join("class/block")).unwrap();
        for name in ["vda", "vda/vda1"] {
            let link = sysfs.path().join("class/block").join(name.rsplit('/').next().unwrap());
            symlink(folder.parent().unwrap().join(name), link).unwrap();
        }
        let mut bytes = vec![0; 4096];
        bytes[440..444].copy_from_slice(&[0x78, 0x56, 0x34, 0x12]);
        bytes[510..512].copy_from_slice(&[0x55, 0xAA]);
        fs::write(dev.path().join("vda"), &bytes).unwrap();
        let mut xfs = vec![0; 2048];
        xfs[..8].copy_from_slice(b"XFSB\0\0\x10\0");
        xfs[32..48].fill(7);
        xfs[108..112].copy_from_slice(b"pods");
        fs::write(dev.path().join("vda1"), &xfs).unwrap();
        (sysfs, dev)
    }

    fn links_of(sysfs: &Path, dev: &Path, name: &str) -> Vec<String> {
        let block = Block::find(sysfs, name).unwrap();
        links(&block.facts(block.read(dev)))
    }

    #[test]
    fn a_partition_has_the_links_of_its_disk_table_and_content() {
        let (sysfs, dev) = machine();
        let sysfs = sysfs.path().canonicalize().unwrap();
        assert_eq!(
            links_of(&sysfs, dev.path(), "vda"),
            ["by-id/virtio-data-1", "by-path/pci-0000:00:04.0"]
        );
        assert_eq!(
            links_of(&sysfs, dev.path(), "vda1"),
            [
                "by-id/virtio-data-1-part1",
                "by-label/pods",
                "by-partlabel/kiln\\x20data",
                "by-partuuid/12345678-01",
                "by-path/pci-0000:00:04.0-part1",
                "by-uuid/07070707-0707-0707-0707-070707070707",
            ]
        );
    }

    #[test]
    fn a_device_below_another_one_has_no_content_of_its_own() {
        let (sysfs, dev) = machine();
        let sysfs = sysfs.path().canonicalize().unwrap();
        let holder = sysfs.join("class/block/vda1/holders/dm-0");
        fs::create_dir_all(holder).unwrap();
        let links = links_of(&sysfs, dev.path(), "vda1");
        assert!(links.iter().all(|link| !link.starts_with("by-uuid")), "{links:?}");
    }

    #[test]
    fn a_disk_that_does_not_answer_has_the_links_of_sysfs() {
        let (sysfs, _) = machine();
        let sysfs = sysfs.path().canonicalize().unwrap();
        let block = Block::find(&sysfs, "vda1").unwrap();
        let links = links(&block.facts(OnDisk::default()));
        assert_eq!(
            links,
            [
                "by-id/virtio-data-1-part1",
                "by-partlabel/kiln\\x20data",
                "by-path/pci-0000:00:04.0-part1"
            ]
        );
    }

    #[test]
    fn ram_disks_and_strange_names_have_no_links() {
        let (sysfs, _) = machine();
        for name in ["ram0", "zram0", "../block/vda", "vdb"] {
            assert!(Block::find(sysfs.path(), name).is_none(), "{name}");
        }
    }

    #[test]
    fn the_uuid_of_a_partition_is_in_its_entry() {
        let mut disk = vec![0_u8; 8192];
        let entries = 1024;
        disk[entries + 128 + 16..entries + 128 + 32].copy_from_slice(&[
            0x33, 0x22, 0x11, 0x00, 0x55, 0x44, 0x77, 0x66, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd,
            0xee, 0xff,
        ]);
        let mut header = vec![0_u8; 512];
        header[..8].copy_from_slice(b"EFI PART");
        header[12..16].copy_from_slice(&92_u32.to_le_bytes());
        header[72..80].copy_from_slice(&2_u64.to_le_bytes());
        header[80..84].copy_from_slice(&4_u32.to_le_bytes());
        header[84..88].copy_from_slice(&128_u32.to_le_bytes());
        let sum = crc32(&header[..92]);
        header[16..20].copy_from_slice(&sum.to_le_bytes());
        disk[512..1024].copy_from_slice(&header);
        let mut read = |at: u64, length: usize| {
            disk.get(usize::try_from(at).ok()?..)?.get(..length).map(<[u8]>::to_vec)
        };
        let uuid = partition_uuid(&mut read, 512, 2);
        assert_eq!(uuid.as_deref(), Some("00112233-4455-6677-8899-aabbccddeeff"));
        assert_eq!(partition_uuid(&mut read, 512, 5), None);
        assert_eq!(partition_uuid(&mut read, 3, 1), None);
    }
}
