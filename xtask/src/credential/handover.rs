//! The forms in which a machine gets a credential (`docs/boot.md`).

use std::fmt::Write as _;
use std::path::Path;

use anyhow::Result;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::NAME;
use crate::image::fat;

/// The folder of credentials in QEMU's firmware configuration (systemd's `systemd.system-credentials(7)`).
const FW_CFG: &str = "opt/io.systemd.credentials";

/// The label by which a `NoCloud` disk is found (cloud-init's documentation, "`NoCloud`").
const LABEL: &str = "CIDATA";

/// Returns QEMU's arguments that pass the credential in a file, in both of its forms.
///
/// The arguments name a file, because each user of the host can read a program's arguments.
pub fn qemu(file: &Path) -> String {
    // QEMU reads a comma as the end of a value, unless there are two.
    let file = file.display().to_string().replace(',', ",,");
    format!("-fw_cfg {}", quoted(&format!("name={FW_CFG}/{NAME},file={file}")))
}

/// Returns the SMBIOS string of the credential, for hypervisors without `fw_cfg`.
pub fn smbios(credential: &str) -> String {
    format!("io.systemd.credential.binary:{NAME}={}", STANDARD.encode(credential))
}

/// Returns the elements of a libvirt domain that pass the credential.
pub fn libvirt(credential: &str) -> String {
    // Base64 has no character that XML would read.
    let mut text = String::new();
    let string = smbios(credential);
    // Writing to a String cannot fail.
    let _ = writeln!(
        text,
        "<!-- Add the first element to <os>, and the second one to <domain>. -->\n\
         <smbios mode='sysinfo'/>\n\
         <sysinfo type='smbios'>\n  <oemStrings>\n    <entry>{string}</entry>\n  </oemStrings>\n</sysinfo>"
    );
    text
}

/// Returns a `NoCloud` disk with the credential, the node's name and its settings.
///
/// The file of the settings is empty without any, so that those of the image count.
pub fn nocloud(credential: &str, hostname: Option<&str>, node: Option<&str>) -> Result<Vec<u8>> {
    let mut meta = String::from("instance-id: kiln\n");
    if let Some(hostname) = hostname {
        let _ = writeln!(meta, "local-hostname: {hostname}");
    }
    let file = format!("{NAME}.cred");
    fat::volume(
        LABEL,
        &[
            ("meta-data", meta.as_bytes()),
            ("user-data", node.unwrap_or_default().as_bytes()),
            (&file, credential.as_bytes()),
        ],
    )
}

/// Quotes an argument for a shell.
fn quoted(text: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-=,:".contains(&byte);
    if text.bytes().all(is_plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use std::io::{Cursor, Read};

    use expect_test::expect;

    use super::*;

    #[test]
    fn arguments_of_qemu_are_quoted_for_qemu_and_for_the_shell() {
        expect!["-fw_cfg name=opt/io.systemd.credentials/kiln.join,file=/srv/kiln.join"]
            .assert_eq(&qemu("/srv/kiln.join".as_ref()));
        expect![[
            r"-fw_cfg 'name=opt/io.systemd.credentials/kiln.join,file=/a b,,c'\''s/kiln.join'"
        ]]
        .assert_eq(&qemu("/a b,c's/kiln.join".as_ref()));
    }

    #[test]
    fn libvirt_gets_an_smbios_string_with_the_bytes_of_the_credential() {
        expect![[r"
            <!-- Add the first element to <os>, and the second one to <domain>. -->
            <smbios mode='sysinfo'/>
            <sysinfo type='smbios'>
              <oemStrings>
                <entry>io.systemd.credential.binary:kiln.join=c2VydmVyID0gIiImPCIK</entry>
              </oemStrings>
            </sysinfo>
        "]]
        .assert_eq(&libvirt("server = \"\"&<\"\n"));
    }

    fn read(disk: Vec<u8>, name: &str) -> String {
        let volume = fatfs::FileSystem::new(Cursor::new(disk), fatfs::FsOptions::new()).unwrap();
        let mut text = String::new();
        volume.root_dir().open_file(name).unwrap().read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn a_nocloud_disk_has_name_settings_and_credential() {
        let disk = nocloud("token = \"a\"\n", Some("node-1"), Some("[labels]\n")).unwrap();
        assert_eq!(read(disk.clone(), "meta-data"), "instance-id: kiln\nlocal-hostname: node-1\n");
        assert_eq!(read(disk.clone(), "user-data"), "[labels]\n");
        assert_eq!(read(disk, "kiln.join.cred"), "token = \"a\"\n");
        let disk = nocloud("a", None, None).unwrap();
        assert_eq!(read(disk.clone(), "meta-data"), "instance-id: kiln\n");
        assert_eq!(read(disk, "user-data"), "");
        assert!(nocloud("a", None, None).unwrap() == nocloud("a", None, None).unwrap());
    }
}
