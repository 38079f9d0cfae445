//! The identity of a node's machine, and the credentials that it gets.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use kiln_contract::setting::{HOSTNAME_CREDENTIAL, NODE};
use serde::Deserialize;

/// Credentials by name.
pub type Credentials = BTreeMap<String, String>;

/// A channel through which a machine gets its credentials.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Channel {
    /// QEMU's `fw_cfg` items.
    #[default]
    FwCfg,
    /// SMBIOS strings of type 11.
    Smbios,
    /// A `NoCloud` disk, which has the name in `meta-data` and `kiln.node` in `user-data`.
    NoCloud,
    /// Files on the ESP, which the EFI stub collects; for machines with firmware.
    Esp,
}

/// The way in which a machine gets its credentials.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Handover {
    /// Arguments of QEMU.
    pub arguments: Vec<String>,
    /// Files for the ESP.
    pub esp: Vec<PathBuf>,
}

/// The name of a node, which is also its name in the cluster; nodes count from 1.
pub fn name(number: u8) -> String {
    format!("kiln-node-{number}")
}

/// The hardware address of a node's card, of which the DHCP server remembers the lease.
pub fn mac(number: u8) -> String {
    format!("52:54:00:6b:69:{number:02x}")
}

/// The UUID of a node's machine, from which its machine-id is made.
pub fn uuid(number: u8) -> String {
    format!("6b696c6e-0000-4000-8000-{number:012x}")
}

/// Prepares credentials, which are written to files in `folder`.
pub fn hand_over(channel: Channel, credentials: &Credentials, folder: &Path) -> Result<Handover> {
    let folder = folder.join("credentials");
    let context = || format!("cannot prepare credentials in {}", folder.display());
    if folder.exists() {
        // Those of an earlier boot.
        fs::remove_dir_all(&folder).with_context(context)?;
    }
    fs::create_dir_all(&folder).with_context(context)?;
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).with_context(context)?;
    let mut handover = Handover::default();
    for (name, text) in credentials {
        let (file, text) = form(channel, name, text);
        let path = folder.join(file);
        fs::write(&path, text).with_context(context)?;
        let shown = escape(&path);
        match channel {
            Channel::FwCfg => {
                let item = format!("name=opt/io.systemd.credentials/{name},file={shown}");
                handover.arguments.extend(["-fw_cfg".to_owned(), item]);
            }
            Channel::Smbios => {
                handover.arguments.extend(["-smbios".to_owned(), format!("type=11,path={shown}")]);
            }
            Channel::NoCloud => {}
            Channel::Esp => handover.esp.push(path),
        }
    }
    if channel == Channel::NoCloud {
        handover.arguments = nocloud(&folder).into();
    }
    Ok(handover)
}

/// Returns the file's name and content for a credential.
fn form(channel: Channel, name: &str, text: &str) -> (String, String) {
    match channel {
        Channel::Smbios => (name.to_owned(), format!("io.systemd.credential:{name}={text}")),
        Channel::NoCloud if name == HOSTNAME_CREDENTIAL.name => {
            ("meta-data".to_owned(), format!("instance-id: kiln\nlocal-hostname: {text}\n"))
        }
        Channel::NoCloud if name == NODE.name => ("user-data".to_owned(), text.to_owned()),
        Channel::FwCfg => (name.to_owned(), text.to_owned()),
        Channel::NoCloud | Channel::Esp => (format!("{name}.cred"), text.to_owned()),
    }
}

/// A disk whose FAT file system QEMU makes from a folder.
fn nocloud(folder: &Path) -> [String; 4] {
    let folder = escape(folder);
    [
        "-blockdev".to_owned(),
        format!("driver=vvfat,node-name=nocloud,dir={folder},label=CIDATA,read-only=on"),
        "-device".to_owned(),
        "virtio-blk-pci,drive=nocloud".to_owned(),
    ]
}

/// Doubles the commas of a path, because QEMU splits an option's value at single ones.
fn escape(path: &Path) -> String {
    path.to_string_lossy().replace(',', ",,")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(channel: Channel, files: &[(&str, &str)], arguments: usize, esp: usize) {
        let folder = tempfile::tempdir().unwrap();
        let pairs = [("kiln.hostname", "a"), ("kiln.join", "b"), ("kiln.node", "c")];
        let credentials = pairs.map(|(name, text)| (name.to_owned(), text.to_owned())).into();
        // The files of an earlier boot go.
        hand_over(Channel::Esp, &credentials, folder.path()).unwrap();
        let handover = hand_over(channel, &credentials, folder.path()).unwrap();
        assert_eq!(
            (handover.arguments.len(), handover.esp.len()),
            (arguments, esp),
            "{handover:?}"
        );
        let folder = folder.path().join("credentials");
        for (file, text) in files {
            assert_eq!(fs::read_to_string(folder.join(file)).unwrap(), *text, "{file}");
        }
        assert_eq!(fs::read_dir(folder).unwrap().count(), files.len());
    }

    #[test]
    fn each_channel_has_its_form() {
        let plain = [("kiln.hostname", "a"), ("kiln.join", "b"), ("kiln.node", "c")];
        check(Channel::FwCfg, &plain, 6, 0);
        let string = "io.systemd.credential:kiln.join=b";
        let strings = [
            ("kiln.hostname", "io.systemd.credential:kiln.hostname=a"),
            ("kiln.join", string),
            ("kiln.node", "io.systemd.credential:kiln.node=c"),
        ];
        check(Channel::Smbios, &strings, 6, 0);
        let meta_data = ("meta-data", "instance-id: kiln\nlocal-hostname: a\n");
        check(Channel::NoCloud, &[meta_data, ("user-data", "c"), ("kiln.join.cred", "b")], 4, 0);
        let files = [("kiln.hostname.cred", "a"), ("kiln.join.cred", "b"), ("kiln.node.cred", "c")];
        check(Channel::Esp, &files, 0, 3);
    }
}
