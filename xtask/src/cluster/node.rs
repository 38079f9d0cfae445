//! The identity of a node's machine, and the credentials that it gets.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result};
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

/// QEMU's arguments for the credentials, which are written to files in `folder`.
pub fn arguments(
    channel: Channel,
    credentials: &Credentials,
    folder: &Path,
) -> Result<Vec<String>> {
    let mut arguments = Vec::new();
    for (name, text) in credentials {
        let path = folder.join(name);
        let text = match channel {
            Channel::FwCfg => text.clone(),
            Channel::Smbios => format!("io.systemd.credential:{name}={text}"),
        };
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        // The file holds a secret.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
        let file = path.to_string_lossy().replace(',', ",,");
        arguments.extend(match channel {
            Channel::FwCfg => {
                let item = format!("name=opt/io.systemd.credentials/{name},file={file}");
                ["-fw_cfg".to_owned(), item]
            }
            Channel::Smbios => ["-smbios".to_owned(), format!("type=11,path={file}")],
        });
    }
    Ok(arguments)
}
