//! QEMU's configuration device (`-fw_cfg name=opt/io.systemd.credentials/NAME,file=…`, QEMU's
//! `docs/specs/fw_cfg.rst`; the kernel's `Documentation/ABI/testing/sysfs-firmware-qemu_fw_cfg`).

use std::fs;
use std::path::Path;

use super::credential::{Credentials, Source};

/// The credentials, one folder each with the file `raw`.
const FOLDER: &str = "/sys/firmware/qemu_fw_cfg/by_name/opt/io.systemd.credentials";

/// The folder of the device, once its driver is loaded.
const DRIVER: &str = "/sys/firmware/qemu_fw_cfg";

/// ACPI's devices.
const DEVICES: &str = "/sys/bus/acpi/devices";

/// ACPI's id of the device.
const ID: &str = "QEMU0002:";

/// The driver below the folder of modules.
pub const MODULE: &str = "kernel/drivers/firmware/qemu_fw_cfg.ko";

/// The largest credential that is read from the device, in bytes.
///
/// The kernel reads a page at a time, and the device cannot seek: for each page the driver reads all
/// bytes before it again, one by one (`fw_cfg_read_blob` in the kernel's `qemu_fw_cfg.c`). A megabyte
/// is 134 million reads, which would stop a boot for minutes; this size is half a million.
const BYTES_MAX: u64 = 64 * 1024;

/// True if the machine has the device and its driver is not loaded.
#[must_use]
pub fn needs_driver() -> bool {
    let mut devices = fs::read_dir(DEVICES).into_iter().flatten().flatten();
    let is = |name: std::ffi::OsString| name.to_string_lossy().starts_with(ID);
    !Path::new(DRIVER).exists() && devices.any(|device| is(device.file_name()))
}

/// Adds the device's credentials. A machine without the device has none.
pub fn add(credentials: &mut Credentials) {
    add_from(Path::new(FOLDER), credentials);
}

/// Adds the credentials of a folder. A name with a slash is a folder without `raw`.
fn add_from(folder: &Path, credentials: &mut Credentials) {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<_> =
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort_unstable();
    for name in names {
        let file = folder.join(&name).join("raw");
        if size(&folder.join(&name)) > BYTES_MAX {
            let cause =
                format!("larger than {BYTES_MAX} bytes, which this device takes minutes for");
            let next = "pass it through SMBIOS or a NoCloud disk";
            credentials.refuse(Source::FwCfg, &name, &cause, next);
        } else if file.exists() {
            credentials.add_file(Source::FwCfg, &name, &file);
        } else {
            let next = "use at most 128 letters, digits, `.`, `_` and `-`";
            credentials.refuse(Source::FwCfg, &format!("{name}/"), "invalid name", next);
        }
    }
}

/// Returns a credential's size in bytes, which the driver shows as a number.
fn size(entry: &Path) -> u64 {
    let text = fs::read_to_string(entry.join("size")).unwrap_or_default();
    text.trim().parse().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::add_from;
    use crate::machine::credential::Credentials;

    #[test]
    fn each_folder_is_a_credential_and_a_name_with_a_slash_is_reported() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["kiln.node", "a/b"] {
            fs::create_dir_all(folder.path().join(name)).unwrap();
            fs::write(folder.path().join(name).join("raw"), name).unwrap();
        }
        let mut credentials = Credentials::default();
        add_from(folder.path(), &mut credentials);
        assert_eq!(credentials.iter().collect::<Vec<_>>(), [("kiln.node", &b"kiln.node"[..])]);
        assert_eq!(credentials.warnings.len(), 1);
        assert!(credentials.warnings[0].starts_with("credential \"a/\" from fw_cfg: invalid name"));
        add_from(&folder.path().join("missing"), &mut credentials);
    }

    #[test]
    fn a_credential_that_takes_minutes_is_never_read() {
        let folder = tempfile::tempdir().unwrap();
        for (name, size) in [("fits", "65536\n"), ("large", "65537\n")] {
            fs::create_dir_all(folder.path().join(name)).unwrap();
            fs::write(folder.path().join(name).join("size"), size).unwrap();
            fs::write(folder.path().join(name).join("raw"), "a").unwrap();
        }
        let mut credentials = Credentials::default();
        add_from(folder.path(), &mut credentials);
        assert_eq!(credentials.iter().map(|(name, _)| name).collect::<Vec<_>>(), ["fits"]);
        assert!(credentials.warnings[0].contains("pass it through SMBIOS or a NoCloud disk"));
    }
}
