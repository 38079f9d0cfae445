//! Credentials: small named files that the machine's owner hands to the boot.
//!
//! They come in two of systemd's forms: files next to the image, which the EFI stub collects
//! (systemd-stub(7)), and SMBIOS type 11 strings `io.systemd.credential:NAME=VALUE`
//! (systemd-creds(1)). Both become files in one folder that only root can read. If a name is
//! repeated, the first one wins: a file before SMBIOS.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use kiln_contract::path::CREDENTIALS;
use kiln_contract::setting::{CREDENTIAL_BYTES_MAX, Credential};

use crate::console::kmsg;
use crate::machine::smbios;

/// The number of credentials in one boot. More are a mistake or an attack.
const COUNT_MAX: usize = 64;

/// The kernel's folder of SMBIOS structures, one folder each (Documentation/ABI,
/// sysfs-firmware-dmi-entries).
const DMI_ENTRIES: &str = "/sys/firmware/dmi/entries";

/// True if the name is safe as a file name: letters, digits, `.`, `_`, `-`, without a leading dot.
#[must_use]
pub fn is_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    (1..=128).contains(&name.len()) && !name.starts_with('.') && name.bytes().all(allowed)
}

/// Writes a credential into `folder`, unless the name is taken.
pub fn store(folder: impl AsRef<Path>, name: &str, value: &[u8]) -> Result<()> {
    ensure!(is_name(name), "credential {name:?}: invalid name");
    ensure!(
        value.len() <= CREDENTIAL_BYTES_MAX,
        "credential {name}: larger than {CREDENTIAL_BYTES_MAX} bytes"
    );
    let folder = folder.as_ref();
    let count =
        fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?.count();
    ensure!(count < COUNT_MAX, "credential {name}: there are more than {COUNT_MAX}");
    let file = folder.join(name);
    match OpenOptions::new().write(true).create_new(true).mode(0o400).open(&file) {
        Ok(mut open) => {
            open.write_all(value).with_context(|| format!("cannot write {}", file.display()))
        }
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error).with_context(|| format!("cannot make {}", file.display())),
    }
}

/// Stores the credentials from SMBIOS. A machine without SMBIOS has none.
pub fn store_smbios() {
    for entry in fs::read_dir(DMI_ENTRIES).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with("11-") {
            let bytes = fs::read(entry.path().join("raw")).unwrap_or_default();
            for (name, value) in smbios::credentials(&bytes) {
                let _ = kmsg::warn_on_error(store(CREDENTIALS, &name, &value));
            }
        }
    }
}

/// Returns a credential's text, trimmed, or `None` if it is missing or not UTF-8.
#[must_use]
pub fn text(credential: &Credential) -> Option<String> {
    let bytes = fs::read(Path::new(CREDENTIALS).join(credential.name)).ok()?;
    String::from_utf8(bytes).ok().map(|text| text.trim().to_owned())
}

/// Returns the names of all credentials with a prefix, sorted.
#[must_use]
pub fn names(credential: &Credential) -> Vec<String> {
    let entries = fs::read_dir(CREDENTIALS).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let mut names: Vec<_> = names.filter(|name| name.starts_with(credential.name)).collect();
    names.sort_unstable();
    names
}

#[cfg(test)]
mod tests {
    use super::{is_name, store};

    #[test]
    fn a_name_never_leaves_the_folder() {
        for name in ["kiln.hostname", "a", "kiln.pod.web-1"] {
            assert!(is_name(name), "{name}");
        }
        for name in ["", ".", "..", "../a", "a/b", "a b", "ä", ".hidden", &"a".repeat(129)] {
            assert!(!is_name(name), "{name}");
        }
    }

    #[test]
    fn the_first_credential_of_a_name_wins() {
        let folder = tempfile::tempdir().unwrap();
        store(folder.path(), "a", b"first").unwrap();
        store(folder.path(), "a", b"second").unwrap();
        assert_eq!(std::fs::read(folder.path().join("a")).unwrap(), b"first");
    }

    #[test]
    fn too_large_and_too_many_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        assert!(store(folder.path(), "a", &vec![0; 1024 * 1024 + 1]).is_err());
        for index in 0..64 {
            store(folder.path(), &format!("c{index}"), b"").unwrap();
        }
        assert!(store(folder.path(), "one-more", b"").is_err());
    }
}
