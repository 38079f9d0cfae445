//! The facts about a disk: sysfs, and its partition table.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};

use super::gpt::{self, Geometry, GptError, Header, Partition};

/// The kernel's block devices, disks and partitions.
const BLOCK: &str = "/sys/class/block";

/// The size of the sectors in which sysfs counts.
const SECTOR: u64 = 512;

/// Devices that are no disks of the machine: made by the kernel, or without a partition table.
const OTHERS: [&str; 6] = ["ram", "loop", "zram", "nbd", "sr", "fd"];

/// A disk of the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk {
    /// The kernel's name, such as `vda`.
    pub name: String,
    /// Its blocks.
    pub geometry: Geometry,
    /// Its serial number; empty if unknown.
    pub serial: String,
    /// Its model; empty if unknown.
    pub model: String,
    /// The kind of device.
    pub kind: Kind,
    /// True if the kernel refuses to write it.
    pub read_only: bool,
    /// True if the kernel found partitions, or another device is built on it.
    pub in_use: bool,
    /// Its partition table.
    pub table: Table,
}

/// The kind of a disk's device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Built in.
    Fixed,
    /// A memory stick or a card.
    Removable,
    /// An array or a volume of other disks.
    Volume,
}

/// A disk's partition table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Table {
    /// The disk cannot be read: a drive without a medium, or a path of a multipath disk.
    Unreadable,
    /// No GUID partition table.
    None,
    /// A damaged table.
    Damaged(GptError),
    /// The partitions with the type of `/var`.
    Found(Vec<Partition>),
}

impl Disk {
    /// Returns its device.
    #[must_use]
    pub fn device(&self) -> PathBuf {
        Path::new("/dev").join(&self.name)
    }

    /// Returns the kernel's name of a partition.
    #[must_use]
    pub fn partition(&self, number: u32) -> String {
        let infix = if self.name.ends_with(|last: char| last.is_ascii_digit()) { "p" } else { "" };
        format!("{}{infix}{number}", self.name)
    }

    /// Reads the table's header and entries.
    pub fn read_table(&self, file: &File) -> Result<(Header, Vec<u8>)> {
        read_table(file, self.geometry)?.map_err(|error| anyhow!("{error}"))
    }
}

/// Returns all disks, sorted by name.
#[must_use]
pub fn all() -> Vec<Disk> {
    let mut names = block_devices();
    names.retain(|name| is_disk(name));
    names.sort_unstable();
    names.iter().filter_map(|name| disk(name)).collect()
}

/// True if there is any disk. Quicker than [`all`].
#[must_use]
pub fn exists() -> bool {
    block_devices().iter().any(|name| is_disk(name))
}

/// Returns the size of a disk or a partition in bytes.
#[must_use]
pub fn bytes(name: &str) -> Option<u64> {
    number(&Path::new(BLOCK).join(name), "size")?.checked_mul(SECTOR)
}

/// Returns the names of all disks and partitions, without the kernel's RAM disks and loop devices.
#[must_use]
pub fn block_devices() -> Vec<String> {
    let entries = fs::read_dir(BLOCK).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    names.filter(|name| !["ram", "loop"].iter().any(|made_up| name.starts_with(made_up))).collect()
}

/// True for a whole disk, but not for [`OTHERS`].
fn is_disk(name: &str) -> bool {
    let digits = |rest: &str| rest.bytes().all(|byte| byte.is_ascii_digit());
    let other = OTHERS.iter().any(|kind| name.strip_prefix(kind).is_some_and(digits));
    let folder = Path::new(BLOCK).join(name);
    !other && !folder.join("partition").exists() && number(&folder, "hidden") != Some(1)
}

/// Reads the facts. Returns `None` for a device without a size, such as an empty card reader.
fn disk(name: &str) -> Option<Disk> {
    let folder = Path::new(BLOCK).join(name);
    let block = number(&folder, "queue/logical_block_size").unwrap_or(SECTOR).max(SECTOR);
    let blocks = bytes(name)? / block;
    if blocks == 0 {
        return None;
    }
    let flag = |file: &str| number(&folder, file) == Some(1);
    let has = |sub: &str, matches: fn(&Path) -> bool| {
        let entries = fs::read_dir(folder.join(sub)).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).any(|path| matches(&path))
    };
    let geometry = Geometry { block, blocks };
    Some(Disk {
        name: name.to_owned(),
        geometry,
        serial: serial(&folder),
        model: text(&folder, "device/model"),
        kind: match (folder.join("device").exists(), flag("removable")) {
            (false, _) => Kind::Volume,
            (true, true) => Kind::Removable,
            (true, false) => Kind::Fixed,
        },
        read_only: flag("ro"),
        in_use: has("", |path| path.join("partition").exists()) || has("holders", |_| true),
        table: table(name, geometry),
    })
}

fn text(folder: &Path, file: &str) -> String {
    fs::read_to_string(folder.join(file)).unwrap_or_default().trim().to_owned()
}

fn number(folder: &Path, file: &str) -> Option<u64> {
    text(folder, file).parse().ok()
}

/// Returns the serial number: virtio has it at the disk, `NVMe` at the controller, SCSI in a page of
/// its vital product data.
fn serial(folder: &Path) -> String {
    let plain = ["serial", "device/serial"].map(|file| text(folder, file));
    if let Some(serial) = plain.into_iter().find(|serial| !serial.is_empty()) {
        return serial;
    }
    serial_of_page(&fs::read(folder.join("device/vpd_pg80")).unwrap_or_default())
}

/// Parses the page 0x80 (SPC-4, 7.8.13): the length is in the fourth byte.
fn serial_of_page(page: &[u8]) -> String {
    let Some((head, rest)) = page.split_at_checked(4) else { return String::new() };
    let serial = rest.get(..usize::from(head[3])).unwrap_or(rest);
    String::from_utf8_lossy(serial).trim_matches([' ', '\0']).to_owned()
}

fn table(name: &str, geometry: Geometry) -> Table {
    let file = File::open(Path::new("/dev").join(name));
    let Ok(Ok(read)) = file.map(|file| read_table(&file, geometry)) else {
        return Table::Unreadable;
    };
    let found = read.and_then(|(header, entries)| gpt::partitions(&header, &entries, &gpt::VAR));
    match found {
        Ok(found) => Table::Found(found),
        Err(GptError::NoSignature) => Table::None,
        Err(error) => Table::Damaged(error),
    }
}

/// Reads header and entries. The outer error is a failure to read the disk, the inner one an
/// invalid header.
fn read_table(file: &File, geometry: Geometry) -> Result<Result<(Header, Vec<u8>), GptError>> {
    let mut block = vec![0; usize::try_from(geometry.block)?];
    file.read_exact_at(&mut block, geometry.block)?;
    let header = match gpt::header(&block) {
        Ok(header) => header,
        Err(error) => return Ok(Err(error)),
    };
    let mut entries = vec![0; header.bytes()];
    let start = header.first_block.checked_mul(geometry.block);
    file.read_exact_at(&mut entries, start.context("the entries lie beyond the disk")?)?;
    Ok(Ok((header, entries)))
}

#[cfg(test)]
mod tests {
    use super::{Disk, Geometry, Kind, Table, serial_of_page};

    #[test]
    fn a_partition_has_the_kernels_name() {
        let disk = |name: &str| Disk {
            name: name.to_owned(),
            geometry: Geometry { block: 512, blocks: 1 },
            serial: String::new(),
            model: String::new(),
            kind: Kind::Fixed,
            read_only: false,
            in_use: false,
            table: Table::None,
        };
        assert_eq!(disk("vda").partition(1), "vda1");
        assert_eq!(disk("nvme0n1").partition(12), "nvme0n1p12");
    }

    #[test]
    fn a_serial_number_of_scsi_is_bounded_by_its_page() {
        assert_eq!(serial_of_page(b"\0\x80\0\x06 ab12 tail"), "ab12");
        assert_eq!(serial_of_page(b"\0\x80\0\xffab12"), "ab12");
        assert_eq!(serial_of_page(b"\0\x80"), "");
    }
}
