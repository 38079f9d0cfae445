//! More disks for a scenario: on several buses, with blank, strange or damaged contents, which grow
//! between boots and are checked with tools of their own.

mod foreign;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;
use serde::Deserialize;

use super::disk::{self, FIRST_BYTE};
use crate::digest::Digest;
use crate::host::HostTool;

pub use foreign::Content;

/// A disk.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Disk {
    /// QEMU's name of the disk, which is its serial number too.
    pub name: String,
    /// The size in MiB.
    pub mib: u32,
    /// The bus.
    #[serde(default)]
    pub bus: Bus,
    /// The size of a logical sector in bytes.
    #[serde(default = "default_sector")]
    pub sector: u32,
    /// The content at the first boot.
    #[serde(default)]
    pub content: Content,
    /// The number of writes in a second that the disk takes, so that a power cut hits one of them.
    pub writes_per_second: Option<u32>,
    /// True if the disk is plugged in later, by `plug = { device = …, with = { drive = NAME } }`.
    #[serde(default)]
    pub later: bool,
}

/// A bus.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Bus {
    /// virtio-blk.
    #[default]
    Virtio,
    /// A controller of its own.
    Nvme,
    /// virtio-scsi.
    Scsi,
    /// AHCI.
    Sata,
}

/// A disk and its new size.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Enlarge {
    /// The disk.
    pub disk: String,
    /// The new size in MiB.
    pub mib: u32,
}

/// A disk and the damage that its file system gets.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Damage {
    /// The disk.
    pub disk: String,
    /// The damage.
    pub kind: Kind,
}

/// A damage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// The superblock says that there were errors.
    Flag,
    /// A group descriptor has a wrong checksum, so that mounting fails.
    Descriptor,
    /// The root folder is gone, which no automatic check mends.
    Root,
}

/// The disks of a scenario that runs.
#[derive(Debug)]
pub struct Disks {
    all: Vec<Disk>,
    folder: PathBuf,
    tools: Tools,
    /// Disk → the digest of its first content.
    first: BTreeMap<String, Digest>,
}

/// Programs of e2fsprogs.
#[derive(Debug, Clone)]
pub struct Tools {
    /// Makes file systems.
    pub mke2fs: HostTool,
    /// Checks them.
    pub e2fsck: HostTool,
    /// Damages them.
    pub debugfs: HostTool,
}

fn default_sector() -> u32 {
    512
}

impl Disks {
    /// Makes the disks as sparse files.
    pub fn make(disks: &[Disk], folder: &Path, tools: &Tools) -> Result<Self> {
        let mut made = Self {
            all: disks.to_vec(),
            folder: folder.to_owned(),
            tools: tools.clone(),
            first: BTreeMap::new(),
        };
        for disk in disks {
            let path = made.path(&disk.name);
            foreign::write(disk.content, &path, disk.mib, disk.sector, &tools.mke2fs)
                .with_context(|| format!("cannot make the disk {}", disk.name))?;
            // Only these can be compared later, because all others change.
            if disk.content.is_foreign() {
                made.first.insert(disk.name.clone(), Digest::of_file(&path)?);
            }
        }
        Ok(made)
    }

    /// Returns QEMU's arguments.
    pub fn arguments(&self) -> Vec<String> {
        let mut out = Vec::new();
        for disk in &self.all {
            let path = self.path(&disk.name).to_string_lossy().replace(',', ",,");
            let (name, sector) = (&disk.name, disk.sector);
            out.push("-drive".to_owned());
            let slow = disk.writes_per_second.map(|rate| format!(",throttling.iops-write={rate}"));
            let slow = slow.unwrap_or_default();
            out.push(format!("if=none,id={name},format=raw,discard=unmap,file={path}{slow}"));
            if disk.later {
                continue;
            }
            let size = format!("logical_block_size={sector},physical_block_size={sector}");
            let (controller, device) = match disk.bus {
                Bus::Virtio => (None, format!("virtio-blk-pci,drive={name},serial={name},{size}")),
                Bus::Nvme => (None, format!("nvme,drive={name},serial={name},{size}")),
                Bus::Scsi => (
                    Some(format!("virtio-scsi-pci,id=scsi-{name}")),
                    format!("scsi-hd,bus=scsi-{name}.0,drive={name},serial={name},{size}"),
                ),
                Bus::Sata => (
                    Some(format!("ich9-ahci,id=ahci-{name}")),
                    format!("ide-hd,bus=ahci-{name}.0,drive={name},serial={name}"),
                ),
            };
            for device in controller.into_iter().chain([device]) {
                out.extend(["-device".to_owned(), device]);
            }
        }
        out
    }

    /// Enlarges a disk.
    pub fn enlarge(&self, enlarge: &Enlarge) -> Result<()> {
        let file = self.open(&enlarge.disk)?;
        let bytes = u64::from(enlarge.mib) << 20;
        ensure!(file.metadata()?.len() < bytes, "the disk {} has that size", enlarge.disk);
        file.set_len(bytes).context("cannot enlarge the disk")
    }

    /// Damages the file system of a data partition.
    pub fn damage(&self, damage: &Damage) -> Result<()> {
        let debugfs = |request: &str| -> Result<()> {
            let command = self.tools.debugfs.command()?.args(["-w", "-R", request]);
            command.arg(self.partition(&damage.disk)).output().map(drop)
        };
        match damage.kind {
            Kind::Flag => debugfs("set_super_value state 2"),
            Kind::Root => debugfs("clri <2>"),
            Kind::Descriptor => {
                let file = self.open(&damage.disk)?;
                let at = FIRST_BYTE + disk::DESCRIPTOR_CHECKSUM;
                let mut byte = [0];
                file.read_exact_at(&mut byte, at)?;
                file.write_all_at(&[!byte[0]], at).context("cannot damage the disk")
            }
        }
    }

    /// Replays the journal of a data partition as the next boot would, and checks the file system.
    ///
    /// This happens in a copy, because e2fsck forgets the offset when it opens the file again after
    /// the replay.
    pub fn check(&self, name: &str) -> Result<()> {
        let copy = self.folder.join("check.img");
        copy_from(&self.open(name)?, FIRST_BYTE, &copy).context("cannot copy the partition")?;
        let run = |arguments: &[&str]| -> Result<()> {
            self.tools.e2fsck.command()?.args(arguments).arg(&copy).output().map(drop)
        };
        run(&["-E", "journal_only", "-p"]).context("cannot replay the journal")?;
        run(&["-f", "-n"]).with_context(|| format!("the file system of {name} has errors"))?;
        fs::remove_file(&copy).context("cannot remove the copy")
    }

    /// Checks that a disk still has the content that it was made with.
    pub fn check_unchanged(&self, name: &str) -> Result<()> {
        let first = self.first.get(name).context("the disk has no content of its own")?;
        ensure!(Digest::of_file(&self.path(name))? == *first, "the disk {name} was written");
        Ok(())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(format!("disk-{name}.img"))
    }

    /// The partition as e2fsprogs takes it: a file and an offset.
    fn partition(&self, name: &str) -> String {
        format!("{}?offset={FIRST_BYTE}", self.path(name).display())
    }

    fn open(&self, name: &str) -> Result<File> {
        let path = self.path(name);
        let open = fs::OpenOptions::new().read(true).write(true).open(&path);
        open.with_context(|| format!("cannot open {}", path.display()))
    }
}

/// Copies a file from an offset on, without its holes.
fn copy_from(from: &File, offset: u64, to: &Path) -> Result<()> {
    let (end, out) = (from.metadata()?.len(), File::create(to)?);
    out.set_len(end - offset)?;
    let mut at = offset;
    loop {
        let start = match seek(from, SeekFrom::Data(at)) {
            Ok(start) => start,
            // No data follows.
            Err(Errno::NXIO) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        at = seek(from, SeekFrom::Hole(start))?;
        let mut piece = vec![0; 1 << 20];
        for place in (start..at).step_by(piece.len()) {
            let length = usize::try_from(at - place)?.min(piece.len());
            from.read_exact_at(&mut piece[..length], place)?;
            out.write_all_at(&piece[..length], place - offset)?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk(name: &str, bus: Bus, sector: u32, later: bool) -> Disk {
        Disk {
            name: name.into(),
            mib: 8,
            bus,
            sector,
            content: Content::Blank,
            writes_per_second: None,
            later,
        }
    }

    fn disks(disks: &[Disk], folder: &Path) -> Disks {
        let tool = |name| HostTool::new(Path::new("/tools"), name);
        let tools =
            Tools { mke2fs: tool("mke2fs"), e2fsck: tool("e2fsck"), debugfs: tool("debugfs") };
        Disks::make(disks, folder, &tools).unwrap()
    }

    #[test]
    fn each_bus_gets_its_own_controller_and_a_later_disk_only_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let all = [
            disk("a", Bus::Virtio, 4096, false),
            disk("b", Bus::Nvme, 512, false),
            disk("c", Bus::Scsi, 512, false),
            disk("d", Bus::Virtio, 512, true),
        ];
        let arguments = disks(&all, folder.path()).arguments();
        let count = |text: &str| arguments.iter().filter(|one| one.contains(text)).count();
        assert_eq!((count("if=none"), count("-device"), count("drive=d")), (4, 4, 0));
        assert_eq!((count("virtio-blk-pci,drive=a"), count("block_size=4096")), (1, 1));
        assert_eq!((count("nvme,drive=b"), count("bus=scsi-c.0,drive=c")), (1, 1));
    }

    #[test]
    fn a_changed_disk_of_a_stranger_is_detected() {
        let folder = tempfile::tempdir().unwrap();
        let foreign = Disk { content: Content::Luks, ..disk("a", Bus::Virtio, 512, false) };
        let disks = disks(&[foreign], folder.path());
        disks.check_unchanged("a").unwrap();
        disks.open("a").unwrap().write_all_at(b"x", 7 << 20).unwrap();
        assert!(disks.check_unchanged("a").unwrap_err().to_string().contains("was written"));
    }

    #[test]
    fn a_copy_has_the_same_bytes_after_the_offset() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        let file = File::create_new(&from).unwrap();
        file.set_len(16 << 20).unwrap();
        file.write_all_at(b"first", 0).unwrap();
        file.write_all_at(b"second", (8 << 20) + 5).unwrap();
        copy_from(&File::open(&from).unwrap(), 1 << 20, &to).unwrap();
        assert_eq!(fs::read(&from).unwrap()[1 << 20..], fs::read(&to).unwrap());
    }

    #[test]
    fn a_disk_only_grows() {
        let folder = tempfile::tempdir().unwrap();
        let disks = disks(&[disk("a", Bus::Virtio, 512, false)], folder.path());
        disks.enlarge(&Enlarge { disk: "a".into(), mib: 9 }).unwrap();
        assert!(disks.enlarge(&Enlarge { disk: "a".into(), mib: 9 }).is_err());
        assert_eq!(disks.open("a").unwrap().metadata().unwrap().len(), 9 << 20);
    }
}
