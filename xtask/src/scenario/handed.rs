//! Credentials for the machine of a scenario without a cluster, with any bytes, names and numbers:
//! for scenarios of bad input.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use crate::host::HostTool;
use crate::image::fat;

/// The label of a `NoCloud` disk.
const LABEL: &str = "CIDATA";

/// The label of a disc, as cloud-init's manual has it.
const DISC_LABEL: &str = "cidata";

/// The most credentials of one entry.
const TIMES_MAX: u32 = 100;

/// One credential, or many with numbered names.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Handed {
    /// The channel.
    pub through: Through,
    /// The credential's name; on a `NoCloud` disk, the file's name.
    pub name: String,
    /// The content as text.
    pub text: Option<String>,
    /// The content as Base64, for bytes that are not UTF-8.
    pub base64: Option<String>,
    /// The length of a content that has no meaning, in bytes.
    pub length: Option<usize>,
    /// The number of credentials, which get the names `NAME1`, `NAME2`, ….
    #[serde(default)]
    pub times: u32,
}

/// A channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Through {
    /// QEMU's `fw_cfg` items.
    FwCfg,
    /// SMBIOS strings of type 11.
    Smbios,
    /// A `NoCloud` disk.
    Disk,
    /// A second `NoCloud` disk.
    SecondDisk,
    /// A `NoCloud` disc (ISO 9660 with Joliet and Rock Ridge) in a drive of an AHCI controller.
    SataDisc,
    /// The same in a drive on virtio-scsi.
    ScsiDisc,
}

impl Handed {
    /// Fails if the entry has no content, or two.
    pub fn check(&self) -> Result<()> {
        self.content().map(drop)?;
        ensure!(self.times <= TIMES_MAX, "`times` is at most {TIMES_MAX}");
        Ok(())
    }

    fn content(&self) -> Result<Vec<u8>> {
        match (&self.text, &self.base64, self.length) {
            (Some(text), None, None) => Ok(text.as_bytes().to_vec()),
            (None, Some(base64), None) => STANDARD.decode(base64).context("`base64` is invalid"),
            (None, None, Some(length)) => Ok(vec![b'a'; length]),
            _ => bail!("a credential has one of `text`, `base64` and `length`"),
        }
    }

    fn names(&self) -> Vec<String> {
        match self.times {
            0 => vec![self.name.clone()],
            times => (1..=times).map(|number| format!("{}{number}", self.name)).collect(),
        }
    }
}

/// Returns QEMU's arguments for the credentials, which are written to files in `folder`. Discs are made
/// by `genisoimage`.
pub fn arguments(handed: &[Handed], folder: &Path, genisoimage: &HostTool) -> Result<Vec<String>> {
    let folder = folder.join("handed");
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let mut arguments = Vec::new();
    let mut disks: BTreeMap<Through, Vec<(String, Vec<u8>)>> = BTreeMap::new();
    for one in handed {
        let content = one.content()?;
        for name in one.names() {
            let path = folder.join(format!("{}", arguments.len()));
            match one.through {
                Through::FwCfg => {
                    let file = saved(&path, &content)?;
                    let item = format!("name=opt/io.systemd.credentials/{name},file={file}");
                    arguments.extend(["-fw_cfg".to_owned(), item]);
                }
                Through::Smbios => {
                    let encoded = STANDARD.encode(&content);
                    let string = format!("io.systemd.credential.binary:{name}={encoded}");
                    let file = saved(&path, string.as_bytes())?;
                    arguments.extend(["-smbios".to_owned(), format!("type=11,path={file}")]);
                }
                disk => {
                    disks.entry(disk).or_default().push((name, content.clone()));
                }
            }
        }
    }
    for (index, (through, files)) in disks.into_iter().enumerate() {
        let file = folder.join(format!("disk{index}"));
        let media = if matches!(through, Through::Disk | Through::SecondDisk) {
            let files: Vec<_> =
                files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect();
            saved(&file, &fat::volume(LABEL, &files)?)?;
            "disk"
        } else {
            burn(&file, &files, genisoimage)?;
            "cdrom"
        };
        let file = escaped(&file);
        let id = format!("nocloud{index}");
        let drive = format!("if=none,id={id},media={media},format=raw,readonly=on,file={file}");
        arguments.extend(["-drive".to_owned(), drive]);
        let devices = match through {
            Through::SataDisc => vec![
                format!("ich9-ahci,id=sata-{id}"),
                format!("ide-cd,bus=sata-{id}.5,drive={id}"),
            ],
            Through::ScsiDisc => vec![
                format!("virtio-scsi-pci,id=scsi-{id}"),
                format!("scsi-cd,bus=scsi-{id}.0,drive={id}"),
            ],
            _ => vec![format!("virtio-blk-pci,drive={id}")],
        };
        arguments.extend(devices.into_iter().flat_map(|device| ["-device".to_owned(), device]));
    }
    Ok(arguments)
}

/// Makes the image of a disc.
fn burn(image: &Path, files: &[(String, Vec<u8>)], genisoimage: &HostTool) -> Result<()> {
    let folder = image.with_extension("files");
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    for (name, bytes) in files {
        saved(&folder.join(name), bytes)?;
    }
    let options = ["-quiet", "-volid", DISC_LABEL, "-joliet", "-rock", "-output"];
    let command = genisoimage.command()?.args(options).arg(image).arg(&folder);
    command.output().map(drop).context("cannot make a NoCloud disc")
}

/// Writes a file and returns its path as QEMU reads it.
fn saved(path: &Path, bytes: &[u8]) -> Result<String> {
    fs::write(path, bytes).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(escaped(path))
}

/// Returns a path as QEMU reads it: with its commas doubled.
fn escaped(path: &Path) -> String {
    path.to_string_lossy().replace(',', ",,")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn handed(text: &str) -> Result<Vec<Handed>> {
        #[derive(Deserialize)]
        struct All {
            hand: Vec<Handed>,
        }
        let all: All = toml::from_str(text)?;
        all.hand.iter().try_for_each(Handed::check)?;
        Ok(all.hand)
    }

    #[test]
    fn each_channel_has_its_arguments() {
        let folder = tempfile::tempdir().unwrap();
        let all = handed(
            "hand = [{ through = 'fw-cfg', name = 'a/b', base64 = '/w==' },
             { through = 'smbios', name = 'n', text = 'x', times = 3 },
             { through = 'disk', name = 'meta-data', text = '' },
             { through = 'disk', name = 'a.cred', length = 9 },
             { through = 'second-disk', name = 'a.cred', text = 'x' }]",
        );
        let tool = HostTool::new(folder.path(), "genisoimage");
        let arguments = arguments(&all.unwrap(), folder.path(), &tool).unwrap();
        let count = |start: &str| arguments.iter().filter(|one| one.starts_with(start)).count();
        assert_eq!(count("name=opt/io.systemd.credentials/a/b,file="), 1);
        assert_eq!((count("type=11,path="), count("virtio-blk-pci,drive=nocloud")), (3, 2));
        assert_eq!(fs::read(folder.path().join("handed/0")).unwrap(), [255]);
        let last = fs::read_to_string(folder.path().join("handed/6")).unwrap();
        assert_eq!(last, "io.systemd.credential.binary:n3=eA==");
        assert_eq!(fs::metadata(folder.path().join("handed/disk1")).unwrap().len(), 2 << 20);
    }

    #[test]
    fn a_credential_has_one_content() {
        for wrong in ["", "text = 'a', length = 1", "base64 = '='", "text = 'a', times = 101"] {
            let comma = if wrong.is_empty() { "" } else { "," };
            let text = format!("hand = [{{ through = 'disk', name = 'a'{comma} {wrong} }}]");
            assert!(handed(&text).is_err(), "{wrong}");
        }
    }
}
